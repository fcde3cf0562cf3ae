//! The context of a build and its Dockerfile: where they are, and what they say.

use std::collections::BTreeMap;
use std::sync::Arc;

use bollard_buildkit_proto::pb;
use dockerfile::convert::Context;
use dockerfile::llb::SourceFile;

use super::FrontendRequest;
use super::read::{read_file, read_head};
use super::source::Source;
use crate::error::{Error, Result, Step as _};
use crate::job::{Job, Ref};
use crate::source::LARGEST_ATTR;

/// The longest Dockerfile.
const MAX_DOCKERFILE: u64 = 16 << 20;
/// The longest ignore file.
const MAX_IGNORE: u64 = 4 << 20;
/// How much tells an archive from a Dockerfile.
const HEAD: u64 = 512;
/// The default name of a Dockerfile.
const DOCKERFILE: &str = "Dockerfile";
/// The name of the ignore file of a context.
const IGNORE: &str = ".dockerignore";

/// A setting that is there and not empty.
pub(super) fn text<'a>(attrs: &'a BTreeMap<String, String>, name: &str) -> Option<&'a str> {
    attrs
        .get(name)
        .map(String::as_str)
        .filter(|text| !text.is_empty())
}

/// What a build starts from.
pub(super) struct Loaded {
    pub(super) file: SourceFile,
    pub(super) context: Context,
    /// The step that read the Dockerfile, to which warnings belong.
    pub(super) step: oci::Digest,
}

/// Finds the context and reads the Dockerfile and the ignore file.
pub(super) async fn load(job: &Arc<Job>, request: &FrontendRequest) -> Result<Loaded> {
    let attrs = &request.attrs;
    let name = text(attrs, "filename").unwrap_or(DOCKERFILE);
    if let Some(input) = request
        .inputs
        .get(text(attrs, "contextkey").unwrap_or("context"))
    {
        return of_definition(job, request, name, input.clone()).await;
    }
    match text(attrs, "context") {
        Some(url) => remote(job, request, name, url).await,
        None => local(job, request, name).await,
    }
}

/// A Dockerfile from a folder of the client's.
struct FromClient {
    file: SourceFile,
    step: oci::Digest,
    /// Patterns of an ignore file that belongs to this Dockerfile.
    ignore: Option<Vec<u8>>,
}

async fn from_client(
    job: &Arc<Job>,
    attrs: &BTreeMap<String, String>,
    name: &str,
) -> Result<FromClient> {
    let key = text(attrs, "dockerfilekey").unwrap_or("dockerfile");
    let mut names = vec![name.to_owned(), format!("{name}{IGNORE}")];
    if name == DOCKERFILE {
        names.push(DOCKERFILE.to_lowercase());
    }
    let source = local_source(
        job,
        key,
        format!("[internal] load build definition from {name}"),
        &names,
    );
    let definition = source.definition();
    let root = open(job, &definition).await?;
    let (read, other) = (name.to_owned(), names.clone());
    let (data, ignore) = tokio::task::spawn_blocking(move || {
        let data = read_file(&root, &read, MAX_DOCKERFILE).or_else(|error| {
            let lower = other
                .get(2)
                .filter(|_| error.kind() == std::io::ErrorKind::NotFound);
            lower.map_or(Err(error), |lower| read_file(&root, lower, MAX_DOCKERFILE))
        });
        (data, read_file(&root, &other[1], MAX_IGNORE).ok())
    })
    .await
    .step(|| "read the Dockerfile")?;
    let data = data.map_err(|error| unreadable(name, &error))?;
    Ok(FromClient {
        file: SourceFile {
            filename: name.to_owned(),
            data,
            definition: Some(definition),
        },
        step: source.digest(),
        ignore,
    })
}

fn unreadable(name: &str, error: &std::io::Error) -> Error {
    match error.kind() {
        std::io::ErrorKind::NotFound => Error::not_found(format!(
            "failed to read dockerfile: open {name}: no such file or directory"
        )),
        _ => Error::invalid(format!("failed to read dockerfile: open {name}: {error}")),
    }
}

/// A folder of the client's, of which only these names are wanted.
fn local_source(job: &Arc<Job>, key: &str, step: String, names: &[String]) -> Source {
    let list = |names: &[String]| serde_json::Value::from(names.to_vec()).to_string();
    let session = job.sessions.all().into_iter().next().unwrap_or_default();
    Source::new(format!("local://{key}"), step)
        .attr("local.session", session)
        .attr("local.followpaths", list(names))
        .attr("local.sharedkeyhint", key)
        .attr("local.differ", "none")
        .attr(LARGEST_ATTR, MAX_DOCKERFILE.to_string())
}

async fn open(job: &Arc<Job>, definition: &pb::Definition) -> Result<std::os::fd::OwnedFd> {
    let snapshot = Ref::new(job, definition.clone())?.snapshot().await?;
    snapshot.open().step(|| "open a context")
}

async fn local(job: &Arc<Job>, request: &FrontendRequest, name: &str) -> Result<Loaded> {
    let attrs = &request.attrs;
    let key = text(attrs, "contextkey").unwrap_or("context");
    let found = from_client(job, attrs, name).await?;
    let patterns = match found.ignore {
        Some(patterns) => patterns,
        None => ignore_file(job, key, "[internal] load .dockerignore").await?,
    };
    let excludes = dockerfile::ignore::read(&patterns)
        .map_err(|error| Error::invalid(format!("failed parsing .dockerignore: {error}")))?;
    let session = job.sessions.all().into_iter().next().unwrap_or_default();
    Ok(Loaded {
        file: found.file,
        step: found.step,
        context: Context::Local {
            name: key.to_owned(),
            session,
            excludes,
            hint: key.to_owned(),
        },
    })
}

/// The ignore file of a folder of the client's; empty where it has none.
pub(super) async fn ignore_file(job: &Arc<Job>, key: &str, step: &str) -> Result<Vec<u8>> {
    let source = local_source(job, key, step.to_owned(), &[IGNORE.to_owned()]);
    let root = open(job, &source.definition()).await?;
    tokio::task::spawn_blocking(move || read_file(root, IGNORE, MAX_IGNORE).unwrap_or_default())
        .await
        .step(|| "read .dockerignore")
}

/// A context that the engine fetches: a repository, an archive, or a Dockerfile alone.
async fn remote(
    job: &Arc<Job>,
    request: &FrontendRequest,
    name: &str,
    url: &str,
) -> Result<Loaded> {
    let attrs = &request.attrs;
    let keep = text(attrs, "build-arg:BUILDKIT_CONTEXT_KEEP_GIT_DIR");
    let keep_git_dir = keep.is_some_and(|keep| matches!(keep, "1" | "true"));
    let context = match dockerfile::convert::parse_git(url, false) {
        Some(_) => Context::Git {
            url: url.to_owned(),
            keep_git_dir,
        },
        None if url.starts_with("http://") || url.starts_with("https://") => {
            return http(job, request, name, url).await;
        }
        None => {
            return Err(Error::invalid(format!("unsupported context {url}")));
        }
    };
    let definition = dockerfile::convert::context_definition(&context)
        .map_err(|error| Error::invalid(error.to_string()))?;
    with_own_file(job, request, name, context, definition).await
}

/// An archive by URL, or a file that is the Dockerfile itself.
async fn http(job: &Arc<Job>, request: &FrontendRequest, name: &str, url: &str) -> Result<Loaded> {
    let source =
        Source::new(url, "[internal] load remote build context").attr("http.filename", "context");
    let root = open(job, &source.definition()).await?;
    let read = tokio::task::spawn_blocking(move || {
        let head = read_head(&root, "context", HEAD)?;
        if is_archive(&head) {
            return Ok(None);
        }
        read_file(&root, "context", MAX_DOCKERFILE).map(Some)
    });
    let read = read.await.step(|| "read the remote context")?;
    let bytes = read.map_err(|error: std::io::Error| {
        Error::invalid(format!("failed to read downloaded context: {error}"))
    })?;
    let context = Context::Http {
        url: url.to_owned(),
        unpack: bytes.is_none(),
    };
    let Some(data) = bytes else {
        let definition = dockerfile::convert::context_definition(&context)
            .map_err(|error| Error::invalid(error.to_string()))?;
        return with_own_file(job, request, name, context, definition).await;
    };
    Ok(Loaded {
        step: source.digest(),
        file: SourceFile {
            filename: "context".to_owned(),
            data,
            definition: Some(source.definition()),
        },
        context,
    })
}

/// Whether bytes begin as a tar, or as one that is compressed.
fn is_archive(bytes: &[u8]) -> bool {
    const MAGICS: [&[u8]; 4] = [b"\x1f\x8b\x08", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"];
    bytes.get(257..262) == Some(b"ustar") || MAGICS.iter().any(|magic| bytes.starts_with(magic))
}

async fn of_definition(
    job: &Arc<Job>,
    request: &FrontendRequest,
    name: &str,
    definition: pb::Definition,
) -> Result<Loaded> {
    let context = Context::Definition(definition.clone());
    with_own_file(job, request, name, context, definition).await
}

/// A context that holds its Dockerfile, unless the client sends another one.
async fn with_own_file(
    job: &Arc<Job>,
    request: &FrontendRequest,
    name: &str,
    context: Context,
    definition: pb::Definition,
) -> Result<Loaded> {
    let attrs = &request.attrs;
    if attrs.contains_key("dockerfilekey") {
        let found = from_client(job, attrs, name).await?;
        return Ok(Loaded {
            file: found.file,
            step: found.step,
            context,
        });
    }
    let root = open(job, &definition).await?;
    let path = name.to_owned();
    let data = tokio::task::spawn_blocking(move || read_file(root, &path, MAX_DOCKERFILE))
        .await
        .step(|| "read the Dockerfile")?;
    let data = data.map_err(|error| unreadable(name, &error))?;
    let step = crate::llb::Graph::decode(&definition)
        .map_err(|error| Error::invalid(error.to_string()))?
        .map(|graph| graph.target.vertex);
    let step = step.ok_or_else(|| Error::invalid("the context is empty"))?;
    Ok(Loaded {
        file: SourceFile {
            filename: name.to_owned(),
            data,
            definition: Some(definition),
        },
        step,
        context,
    })
}

//! What is built from: the context, the Dockerfile, and further contexts by name.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use builder::client::{Folder, LocalFolder};

use crate::args::Call;
use crate::failure::Failure;

/// How much of standard input tells an archive from a Dockerfile.
const HEAD: usize = 512;
/// The longest Dockerfile that standard input gives, as BuildKit limits it.
const MAX_DOCKERFILE: u64 = 2 << 20;

/// A context by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) name: String,
    /// What the front end is told.
    pub(crate) attribute: String,
}

/// Everything that is built from.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    pub(crate) folders: Vec<Folder>,
    pub(crate) attributes: BTreeMap<String, String>,
    pub(crate) named: Vec<Named>,
    /// An archive that comes on standard input, by the name under which it is asked for, with what was
    /// read of it already.
    pub(crate) upload: Option<(String, Vec<u8>)>,
    /// What lives only as long as the build.
    pub(crate) kept: Option<Scratch>,
}

/// A folder that goes with its value.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    fn new() -> anyhow::Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        let path = std::env::temp_dir().join(format!("gorae-build-{}", super::connection::id()));
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // a folder of the temporary directory that cannot be removed harms nobody
        let _gone = fs::remove_dir_all(&self.0);
    }
}

/// Finds the context and the Dockerfile.
pub(crate) fn find(call: &Call, operand: &str) -> anyhow::Result<Sources> {
    let mut sources = Sources::default();
    let file = call.text("file");
    if operand == "-" {
        if file == Some("-") {
            bail!(Failure::message(
                "invalid argument: can't use stdin for both build context and dockerfile"
            ));
        }
        from_stdin(&mut sources, file)?;
    } else if is_remote(operand) {
        sources
            .attributes
            .insert("context".to_owned(), operand.to_owned());
        match file {
            Some("-") => dockerfile_from_stdin(&mut sources)?,
            Some(file) => set_file(&mut sources, file),
            None => {}
        }
    } else {
        from_folder(&mut sources, Path::new(operand), file)?;
    }
    for text in call.list("build-context") {
        add_named(&mut sources, text)?;
    }
    Ok(sources)
}

fn set_file(sources: &mut Sources, name: &str) {
    sources
        .attributes
        .insert("filename".to_owned(), name.to_owned());
}

fn add_folder(sources: &mut Sources, name: &str, path: &Path) -> anyhow::Result<()> {
    let path = found(path).with_context(|| {
        format!(
            "unable to prepare context: path {:?} not found",
            path.display().to_string()
        )
    })?;
    sources.folders.push(Folder {
        name: name.to_owned(),
        local: LocalFolder { path },
    });
    Ok(())
}

/// A path that is there, without the folder that commands run in.
fn found(path: &Path) -> io::Result<PathBuf> {
    fs::metadata(path)?;
    std::path::absolute(path)
}

fn from_folder(sources: &mut Sources, path: &Path, file: Option<&str>) -> anyhow::Result<()> {
    let metadata = fs::metadata(path).map_err(|_| {
        Failure::message(format!(
            "unable to prepare context: path {:?} not found",
            path.display().to_string()
        ))
    })?;
    if !metadata.is_dir() {
        bail!(Failure::message(format!(
            "unable to prepare context: path {:?} is not a directory",
            path.display().to_string()
        )));
    }
    add_folder(sources, "context", path)?;
    match file {
        Some("-") => dockerfile_from_stdin(sources),
        Some(file) if is_remote(file) => bail!(Failure::message(format!(
            "the Dockerfile {file} has to be a file: give its folder as the context, or pipe it in with -f -"
        ))),
        Some(file) => {
            let file = Path::new(file);
            let name = file.file_name().with_context(|| {
                format!(
                    "unable to prepare context: {:?} names no file",
                    file.display().to_string()
                )
            })?;
            set_file(sources, &name.to_string_lossy());
            let folder = file.parent().filter(|p| !p.as_os_str().is_empty());
            add_folder(sources, "dockerfile", folder.unwrap_or(Path::new(".")))
        }
        None => add_folder(sources, "dockerfile", path),
    }
}

fn dockerfile_from_stdin(sources: &mut Sources) -> anyhow::Result<()> {
    let mut text = Vec::new();
    io::stdin()
        .lock()
        .take(MAX_DOCKERFILE + 1)
        .read_to_end(&mut text)
        .context("cannot read the Dockerfile from standard input")?;
    keep_dockerfile(sources, &text)
}

fn keep_dockerfile(sources: &mut Sources, text: &[u8]) -> anyhow::Result<()> {
    if text.len() as u64 > MAX_DOCKERFILE {
        bail!(Failure::message(
            "the Dockerfile from standard input is longer than 2 MiB"
        ));
    }
    let scratch = Scratch::new()?;
    fs::write(scratch.0.join("Dockerfile"), text).context("cannot keep the Dockerfile")?;
    add_folder(sources, "dockerfile", &scratch.0)?;
    set_file(sources, "Dockerfile");
    sources.kept = Some(scratch);
    Ok(())
}

/// `gorae build -`: an archive is the context, anything else a Dockerfile without one.
fn from_stdin(sources: &mut Sources, file: Option<&str>) -> anyhow::Result<()> {
    let mut head = Vec::new();
    let mut input = io::stdin().lock();
    (&mut input)
        .take(HEAD as u64)
        .read_to_end(&mut head)
        .context("cannot read standard input")?;
    if is_archive(&head) {
        let id = super::connection::id();
        sources.attributes.insert(
            "context".to_owned(),
            format!("http://buildkit-session/{id}"),
        );
        if let Some(file) = file {
            set_file(sources, file);
        }
        sources.upload = Some((id, head));
        return Ok(());
    }
    input
        .take(MAX_DOCKERFILE + 1)
        .read_to_end(&mut head)
        .context("cannot read standard input")?;
    keep_dockerfile(sources, &head)?;
    let empty = sources
        .kept
        .as_ref()
        .map(|scratch| scratch.0.join("context"));
    let Some(empty) = empty else { return Ok(()) };
    fs::create_dir(&empty).with_context(|| format!("cannot create {}", empty.display()))?;
    add_folder(sources, "context", &empty)
}

/// Whether bytes begin as a tar, or as one that is compressed.
fn is_archive(head: &[u8]) -> bool {
    const MAGICS: [&[u8]; 4] = [b"\x1f\x8b\x08", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"];
    let tar = head.get(257..262) == Some(b"ustar");
    tar || MAGICS.iter().any(|magic| head.starts_with(magic))
}

/// Whether an operand names a context that the engine fetches.
pub(crate) fn is_remote(operand: &str) -> bool {
    let schemes = ["http://", "https://", "git://", "ssh://", "git@"];
    schemes.iter().any(|scheme| operand.starts_with(scheme))
        || (operand.starts_with("github.com/") && !Path::new(operand).exists())
}

fn add_named(sources: &mut Sources, text: &str) -> anyhow::Result<()> {
    let Some((name, value)) = text.split_once('=').filter(|(name, _)| !name.is_empty()) else {
        bail!(Failure::message(format!(
            "invalid context value: {text}, expected key=value"
        )));
    };
    let special = ["docker-image://", "oci-layout://", "target:"];
    let attribute = if is_remote(value) || special.iter().any(|p| value.starts_with(p)) {
        match value.strip_prefix("oci-layout://") {
            Some(layout) => oci_layout(sources, name, layout)?,
            None => value.to_owned(),
        }
    } else {
        let local = format!("context:{name}");
        add_folder(sources, &local, Path::new(value))?;
        format!("local:{local}")
    };
    sources.named.push(Named {
        name: name.to_owned(),
        attribute,
    });
    Ok(())
}

/// An image in a folder: its digest is read here, and its blobs come from the client.
fn oci_layout(sources: &mut Sources, name: &str, layout: &str) -> anyhow::Result<String> {
    let (rest, digest) = match layout.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest.to_owned())),
        None => (layout, None),
    };
    let slash = rest.rfind('/').map_or(0, |slash| slash + 1);
    let (path, tag) = match rest[slash..].split_once(':') {
        Some((file, tag)) => (format!("{}{file}", &rest[..slash]), Some(tag)),
        None => (rest.to_owned(), None),
    };
    let folder = found(Path::new(&path))
        .with_context(|| format!("invalid OCI layout {path:?} of build context {name}"))?;
    let digest = match digest {
        Some(digest) => digest,
        None => tagged(&folder, tag.unwrap_or("latest"))
            .with_context(|| format!("invalid OCI layout {path:?} of build context {name}"))?,
    };
    let store = format!("oci-layout-{}", sources.folders.len());
    sources.folders.push(Folder {
        name: store.clone(),
        local: LocalFolder { path: folder },
    });
    Ok(format!("oci-layout://{store}@{digest}"))
}

/// The digest of a tag in the index of a layout; of the only image where it has no name.
fn tagged(folder: &Path, tag: &str) -> anyhow::Result<String> {
    const NAME: &str = "org.opencontainers.image.ref.name";
    let bytes = fs::read(folder.join("index.json")).context("cannot read index.json")?;
    let index: serde_json::Value =
        serde_json::from_slice(&bytes).context("cannot read index.json")?;
    let manifests = index["manifests"].as_array().map_or(&[][..], Vec::as_slice);
    let named = manifests
        .iter()
        .find(|manifest| manifest["annotations"][NAME] == tag);
    let only = (manifests.len() == 1).then(|| &manifests[0]);
    let found = named
        .or(only)
        .and_then(|manifest| manifest["digest"].as_str());
    found
        .map(str::to_owned)
        .with_context(|| format!("no image with tag {tag:?} in it"))
}

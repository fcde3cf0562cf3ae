//! Repositories (`git://`), by the program `git`.
//!
//! Addresses, names and content are a stranger's: the program gets an environment of our own, only
//! those protocols that lead to a network, no hooks and no configuration of the machine's, and no argument
//! that could be taken for an option.

mod address;
mod program;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use oci::Digest;
use zeroize::Zeroizing;

use self::address::Address;
use self::program::Git;
use super::client::{secret, session};
use crate::error::{Error, Result, Step};
use crate::llb::{digest_of, pb};
use crate::op::{CacheMap, OpContext};
use crate::session::SshSocket;
use crate::snapshot::{LayerFacts, Snapshot, Writable};

/// Which state of which repository is wanted.
#[derive(Debug)]
struct Request {
    address: Address,
    /// Branch, tag or commit; empty for what the repository itself calls its head.
    reference: String,
    /// Folder of the repository that becomes the root.
    folder: String,
    /// The beginning of the commit that it has to be.
    checksum: String,
    keep_git: bool,
    skip_submodules: bool,
    token_secret: Option<String>,
    header_secret: Option<String>,
    ssh: Option<String>,
    known_hosts: Option<String>,
}

impl Request {
    fn read(source: &pb::SourceOp) -> Result<Self> {
        let attr = |name: &str| {
            source
                .attrs
                .get(name)
                .filter(|text| !text.is_empty())
                .cloned()
        };
        let (plain, fragment) = source
            .identifier
            .split_once('#')
            .unwrap_or((&source.identifier, ""));
        let (reference, folder) = fragment.split_once(':').unwrap_or((fragment, ""));
        let address = match attr("git.fullurl") {
            Some(full) => Address::parse(&full)?,
            None => Address::parse(&format!("https://{}", plain.trim_start_matches("git://")))?,
        };
        let checksum = attr("git.checksum").unwrap_or_default();
        let is_hex = checksum
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !checksum.is_empty() && (!is_hex || !(7..=64).contains(&checksum.len())) {
            return Err(Error::invalid(format!(
                "invalid checksum {checksum:?} of a repository"
            )));
        }
        Ok(Self {
            address,
            reference: address::reference(reference)?.to_owned(),
            folder: address::folder(folder)?,
            checksum,
            keep_git: attr("git.keepgitdir").as_deref() == Some("true"),
            skip_submodules: attr("git.skipsubmodules").as_deref() == Some("true"),
            token_secret: attr("git.authtokensecret"),
            header_secret: attr("git.authheadersecret"),
            ssh: attr("git.mountsshsock"),
            known_hosts: attr("git.knownsshhosts"),
        })
    }

    /// What the result is known by.
    fn key(&self, commit: &str) -> Digest {
        let keep = if self.keep_git { ".git" } else { "" };
        let skip = if self.skip_submodules {
            "(no submodules)"
        } else {
            ""
        };
        digest_of(format!("git\0{commit}{keep}{skip}\0{}", self.folder).as_bytes())
    }
}

fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64)
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// A repository that is kept, as long as it is used, and what leads to its origin.
struct Repository {
    git: Git,
    folder: PathBuf,
    _work: Scratch,
    _agent: Option<SshSocket>,
}

/// A folder that goes with its value.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = storage::trees::remove(&self.0) {
            tracing::warn!(%error, path = %self.0.display(), "a folder of a build stays");
        }
    }
}

impl Repository {
    /// Opens what is kept of a repository; two builds that need the same one at a time have one each.
    async fn open(context: &OpContext, request: &Request) -> Result<Self> {
        let root = context.builder.root.join("git");
        let work = Scratch(root.join(format!("work-{}", crate::id::new())));
        fs::create_dir_all(&work.0).step(|| "make a folder for git")?;
        let agent = match &request.ssh {
            Some(id) => Some(agent(context, id, &work.0).await?),
            None => None,
        };
        let known_hosts = match &request.known_hosts {
            Some(hosts) => {
                let path = work.0.join("known_hosts");
                fs::write(&path, hosts).step(|| "write the known hosts")?;
                Some(path)
            }
            None => None,
        };
        let git = Git {
            work: work.0.clone(),
            agent: agent.as_ref().map(|agent| agent.path().to_owned()),
            known_hosts,
            header: header(context, request).await?,
            cancel: context.cancel.clone(),
            progress: context.progress.clone(),
        };
        let name = digest_of(request.address.url.as_bytes());
        let folder = root.join(format!("{}.git", name.hex()));
        if !folder.join("HEAD").is_file() {
            let new = work.0.join("new.git");
            let made = ["init", "--quiet", "--bare", "--initial-branch=main"];
            git.run(&made, &[new.as_os_str()]).await?;
            // another build may have made it meanwhile, which is as good
            if let Err(error) = fs::rename(&new, &folder)
                && !folder.join("HEAD").is_file()
            {
                return Err(Error::system("keep a repository", &error));
            }
        }
        Ok(Self {
            git,
            folder,
            _work: work,
            _agent: agent,
        })
    }

    fn option(&self) -> String {
        format!("--git-dir={}", self.folder.display())
    }

    /// Asks the origin which commit is meant.
    async fn resolve(&self, request: &Request) -> Result<String> {
        let url = request.address.url.as_str();
        let wanted = if request.reference.is_empty() {
            "HEAD"
        } else {
            &request.reference
        };
        let peeled = format!("{wanted}^{{}}");
        let listed = self
            .git
            .remote(&["ls-remote", "--", url, wanted, &peeled])
            .await;
        let text = listed.map_err(|error| failed(request, error))?;
        pick(&text, wanted).ok_or_else(|| {
            Error::not_found(format!(
                "repository does not contain ref {wanted}, output: {text:?}"
            ))
        })
    }

    async fn has(&self, commit: &str) -> bool {
        let object = format!("{commit}^{{commit}}");
        self.git
            .local(&[&self.option(), "cat-file", "-e", &object])
            .await
            .is_ok()
    }

    /// Brings a commit, as little else as the origin allows.
    async fn fetch(&self, request: &Request, commit: &str) -> Result<()> {
        if self.has(commit).await {
            return Ok(());
        }
        let url = request.address.url.as_str();
        let option = self.option();
        let keep = format!("+{commit}:refs/gorae/{commit}");
        let shallow = [
            &*option,
            "fetch",
            "--quiet",
            "--depth=1",
            "--no-tags",
            "--",
            url,
            &keep,
        ];
        let first = self.git.remote(&shallow).await;
        if first.is_ok() && self.has(commit).await {
            return Ok(());
        }
        context_end(&self.git)?;
        // not every origin gives a commit that no name of its own leads to
        let all = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"];
        let fetch = [
            &*option,
            "fetch",
            "--quiet",
            "--force",
            "--update-shallow",
            "--",
            url,
            all[0],
            all[1],
        ];
        self.git
            .remote(&fetch)
            .await
            .map_err(|error| failed(request, error))?;
        if self.has(commit).await {
            return Ok(());
        }
        Err(Error::not_found(format!(
            "repository {} does not contain commit {commit}",
            request.address.shown()
        )))
    }

    /// Writes the files of a commit into a folder.
    async fn check_out(&self, request: &Request, commit: &str, to: &Path) -> Result<()> {
        let own = if request.keep_git && request.folder.is_empty() {
            self.own_repository(request, commit, to).await?
        } else {
            self.option()
        };
        let tree = format!("--work-tree={}", to.display());
        let index = self.git.work.join("index");
        let git = self.git.with_index((!request.keep_git).then_some(&index));
        git.within(to)
            .local(&[
                &own, &tree, "checkout", "--quiet", "--force", commit, "--", ".",
            ])
            .await?;
        if request.skip_submodules || !to.join(".gitmodules").is_file() {
            return Ok(());
        }
        let update = [
            &*own,
            &tree,
            "submodule",
            "update",
            "--init",
            "--recursive",
            "--depth=1",
        ];
        let updated = git.within(to).remote(&update).await;
        updated
            .map(drop)
            .map_err(|error| error.context("failed to update submodules"))?;
        if !request.keep_git {
            remove_links(to).step(|| "tidy the checkout")?;
        }
        Ok(())
    }

    /// Makes a checkout a repository of its own, for those who want to look into it.
    async fn own_repository(&self, request: &Request, commit: &str, to: &Path) -> Result<String> {
        let own = format!("--git-dir={}", to.join(".git").display());
        let new = ["init", "--quiet", "--initial-branch=main"];
        self.git.run(&new, &[to.as_os_str()]).await?;
        let from = format!("file://{}", self.folder.display());
        let keep = format!("refs/gorae/{commit}");
        let option = self.option();
        self.git
            .local(&[&option, "update-ref", &keep, commit])
            .await?;
        self.git
            .local(&[&own, "fetch", "--quiet", "--depth=1", "--", &from, &keep])
            .await?;
        self.git
            .local(&[&own, "update-ref", "--no-deref", "HEAD", commit])
            .await?;
        let shown = request.address.shown();
        self.git
            .local(&[&own, "remote", "add", "origin", &shown])
            .await?;
        Ok(own)
    }
}

fn context_end(git: &Git) -> Result<()> {
    git.cancel.check()
}

fn failed(request: &Request, error: Error) -> Error {
    error.context(format!(
        "failed to fetch remote {}",
        request.address.shown()
    ))
}

/// The commit in what `git ls-remote` lists: a branch before a tag of the same name, and of a tag that is
/// an object the commit that it stands for.
fn pick(text: &str, wanted: &str) -> Option<String> {
    let lines = || text.lines().filter_map(|line| line.split_once('\t'));
    let names = [
        wanted.to_owned(),
        format!("refs/heads/{wanted}"),
        format!("refs/tags/{wanted}^{{}}"),
        format!("refs/tags/{wanted}"),
    ];
    let exact = names
        .iter()
        .find_map(|name| lines().find(|(_, found)| found == name));
    let (commit, _) = exact.or_else(|| lines().next())?;
    is_commit(commit).then(|| commit.to_owned())
}

/// A checkout without a repository has no use for what leads to one (`.git` files of submodules).
fn remove_links(folder: &Path) -> std::io::Result<()> {
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if entry.file_name() == ".git" && kind.is_file() {
                fs::remove_file(entry.path())?;
            } else if kind.is_dir() {
                open.push(entry.path());
            }
        }
    }
    Ok(())
}

/// Connects the client's ssh agent.
async fn agent(context: &OpContext, id: &str, work: &Path) -> Result<SshSocket> {
    let session = session(context, "").await?;
    session.ssh_check(id).await.map_err(|error| {
        let lacks = error.is_unsupported();
        if lacks {
            Error::invalid(format!("no SSH key {id:?} forwarded from the client"))
        } else {
            Error::unavailable(error.to_string())
        }
    })?;
    let socket = Arc::clone(&session).ssh_forward(id, work.join("agent"), (0, 0), 0o600);
    socket.map_err(|error| Error::unavailable(error.to_string()))
}

/// The header by which the client is known to the origin.
async fn header(context: &OpContext, request: &Request) -> Result<Option<Zeroizing<String>>> {
    let host = &request.address.host;
    if !request.address.is_http() {
        return Ok(None);
    }
    let of_host = |name: &Option<String>| name.as_ref().map(|name| format!("{name}.{host}"));
    let names = [
        (of_host(&request.header_secret), false),
        (of_host(&request.token_secret), true),
        (request.header_secret.clone(), false),
        (request.token_secret.clone(), true),
    ];
    for (name, is_token) in names {
        let Some(name) = name else { continue };
        let Some(found) = secret(context, &name).await? else {
            continue;
        };
        let text = String::from_utf8_lossy(&found);
        let text = text.trim();
        if text.contains(char::is_control) {
            return Err(Error::invalid(format!("the secret {name} is no header")));
        }
        let value = if is_token {
            let pair = Zeroizing::new(format!("x-access-token:{text}"));
            let encoded = base64::engine::general_purpose::STANDARD.encode(&*pair);
            format!("basic {encoded}")
        } else {
            text.to_owned()
        };
        return Ok(Some(Zeroizing::new(format!("Authorization: {value}"))));
    }
    Ok(None)
}

/// What the files are known by: the commit, and which part of it.
pub(super) async fn cache_map(context: &OpContext, source: &pb::SourceOp) -> Result<CacheMap> {
    let request = Request::read(source)?;
    let commit = commit(context, &request).await?;
    Ok(CacheMap {
        digest: request.key(&commit),
        inputs: Vec::new(),
    })
}

/// The commit that is meant; one that is named by its digest needs no question.
async fn commit(context: &OpContext, request: &Request) -> Result<String> {
    let commit = if is_commit(&request.reference) {
        request.reference.clone()
    } else {
        Repository::open(context, request)
            .await?
            .resolve(request)
            .await?
    };
    if !commit.starts_with(&request.checksum) {
        let expected = &request.checksum;
        return Err(Error::invalid(format!(
            "expected checksum to match {expected}, got {commit}"
        )));
    }
    Ok(commit)
}

/// The files of a commit.
pub(super) async fn run(context: &OpContext, source: &pb::SourceOp) -> Result<Snapshot> {
    let request = Request::read(source)?;
    let commit = commit(context, &request).await?;
    let repository = Repository::open(context, &request).await?;
    repository.fetch(&request, &commit).await?;
    let snapshots = context.builder.snapshots.clone();
    let folder = blocking(move || Ok(snapshots.prepare(&Snapshot::scratch())?)).await?;
    if request.folder.is_empty() {
        repository
            .check_out(&request, &commit, &folder.upper())
            .await?;
    } else {
        let whole = Scratch(folder.work().with_file_name("whole"));
        fs::create_dir(&whole.0).step(|| "make a folder for a checkout")?;
        repository.check_out(&request, &commit, &whole.0).await?;
        let (from, part) = (whole.0.clone(), request.folder.clone());
        let to = folder.upper();
        blocking(move || take_part(&from, &part, &to)).await?;
    }
    let facts = LayerFacts::new(format!(
        "git snapshot for {}#{}",
        request.address.shown(),
        request.reference
    ));
    blocking(move || commit_folder(folder, facts)).await
}

fn commit_folder(folder: Writable, facts: LayerFacts) -> Result<Snapshot> {
    Ok(folder.commit(facts)?)
}

/// Moves what a folder of a checkout holds to another place; links are not followed.
fn take_part(whole: &Path, part: &str, to: &Path) -> Result<()> {
    let step = || format!("open {part} of the repository");
    let root = fs::File::open(whole).step(step)?;
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY;
    let from = sys::tree::open_beneath(std::os::fd::AsFd::as_fd(&root), Path::new(part), flags);
    let from = from.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Error::not_found(format!("subdir not found: {part}")),
        _ => Error::invalid(format!("subdir {part} is no directory of the repository")),
    })?;
    let target = fs::File::open(to).step(step)?;
    let names = storage::trees::list(std::os::fd::AsFd::as_fd(&from)).step(step)?;
    for (name, _) in names {
        rustix::fs::renameat(&from, &name, &target, &name)
            .map_err(std::io::Error::from)
            .step(step)?;
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Error::internal(error.to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits() {
        let [a, b, c] = ["a", "b", "c"].map(|digit| digit.repeat(40));
        let text = format!("{a}\trefs/heads/x/v1\n{b}\trefs/tags/v1\n{c}\trefs/tags/v1^{{}}\n");
        assert_eq!(pick(&text, "v1"), Some(c.clone()));
        let branch = format!("{a}\trefs/heads/v1\n{b}\trefs/tags/v1\n");
        assert_eq!(pick(&branch, "v1"), Some(a.clone()));
        assert_eq!(pick(&format!("{a}\tHEAD\n"), "HEAD"), Some(a));
        assert_eq!(pick("", "v1"), None);
        assert_eq!(pick("nonsense\trefs/heads/v1", "v1"), None);
    }

    fn request(identifier: &str, attrs: &[(&str, &str)]) -> Result<Request> {
        let attrs = attrs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Request::read(&pb::SourceOp {
            identifier: identifier.to_owned(),
            attrs: attrs.collect(),
        })
    }

    #[test]
    fn requests() {
        let asked = request(
            "git://e.com/a.git#v1:sub/dir",
            &[
                ("git.fullurl", "https://e.com/a.git"),
                ("git.keepgitdir", "true"),
            ],
        )
        .unwrap();
        assert_eq!(
            (asked.reference.as_str(), asked.folder.as_str()),
            ("v1", "sub/dir")
        );
        assert!(asked.keep_git);
        for (identifier, attrs) in [
            ("git://e.com/a#--upload-pack=x", &[][..]),
            ("git://e.com/a#v1:../x", &[]),
            ("git://e.com/a", &[("git.fullurl", "ext::sh -c id")]),
            ("git://e.com/a", &[("git.fullurl", "file:///etc")]),
            ("git://e.com/a", &[("git.checksum", "xyz")]),
        ] {
            assert!(
                request(identifier, attrs).is_err(),
                "{identifier} {attrs:?}"
            );
        }
    }
}

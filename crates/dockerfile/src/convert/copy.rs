//! `COPY` and `ADD`: files of the context, of stages, of the net, and here-documents.

use super::git::{self, GitRef};
use super::mode::{self, Mode};
use super::step::Scope;
use super::{ConvertError, Converter};
use crate::env::EnvList;
use crate::error::DockerfileError;
use crate::gofmt::{base_name, clean_path, join_path};
use crate::instruction::{Command, InlineFile, Transfer};
use crate::lint::Rule;
use crate::llb::{Meta, State, caps, pb};

/// A copy in the making.
struct Plan<'a> {
    command: &'a Command,
    transfer: &'a Transfer,
    is_add: bool,
    /// Where files without a source of their own come from.
    from: State,
    /// Whether that is the main context.
    from_context: bool,
    destination: String,
    mode: Option<Mode>,
    name: String,
    copies: Vec<(State, pb::FileActionCopy)>,
}

impl Converter<'_> {
    pub(super) fn add(
        &mut self,
        scope: &mut Scope<'_>,
        command: &Command,
        transfer: &Transfer,
    ) -> Result<(), DockerfileError> {
        let from = self.main;
        let plan = self.plan(scope, command, transfer, (from, true), true)?;
        self.transfer(scope, plan)?;
        let local = transfer.sources.iter();
        let local = local.filter(|s| !s.starts_with("http://") && !s.starts_with("https://"));
        let paths: Vec<String> = local.map(|s| join_path(&["/", s])).collect();
        self.state(scope).context_paths.extend(paths);
        Ok(())
    }

    pub(super) fn copy(
        &mut self,
        scope: &mut Scope<'_>,
        command: &Command,
        transfer: &Transfer,
        sources: &[usize],
    ) -> Result<(), DockerfileError> {
        let mut from = (self.main, true);
        if let Some(source) = sources.first() {
            let source = &self.stages.list[*source];
            if !source.dispatched {
                let stage = self.stages.list[scope.at].name.clone();
                return Err(ConvertError::CopyOrder {
                    from: transfer.from.clone(),
                    stage,
                }
                .into());
            }
            from = (source.root, false);
        }
        let plan = self.plan(scope, command, transfer, from, false)?;
        self.transfer(scope, plan)?;
        let paths = transfer.sources.iter().map(|s| join_path(&["/", s]));
        match sources.first() {
            Some(source) => self.stages.list[*source].paths.borrow_mut().extend(paths),
            None => self.stages.list[scope.at].context_paths.extend(paths),
        }
        Ok(())
    }

    fn plan<'c>(
        &mut self,
        scope: &Scope<'_>,
        command: &'c Command,
        transfer: &'c Transfer,
        (from, from_context): (State, bool),
        is_add: bool,
    ) -> Result<Plan<'c>, DockerfileError> {
        let mode = if transfer.chmod.is_empty() {
            None
        } else {
            Some(mode::parse(&transfer.chmod)?)
        };
        if !transfer.checksum.is_empty() {
            let [source] = transfer.sources.as_slice() else {
                return Err(ConvertError::ChecksumMany.into());
            };
            if !is_http(source) && git::parse(source, false).is_none() {
                return Err(ConvertError::ChecksumSource.into());
            }
        }
        let env = std::rc::Rc::clone(&self.stages.list[scope.at].env);
        Ok(Plan {
            destination: self.destination(scope, &transfer.destination),
            name: self.shown(&command.code, self.lexer, &*env),
            mode,
            command,
            transfer,
            is_add,
            from,
            from_context,
            copies: Vec::new(),
        })
    }

    /// A destination as an absolute path; a slash or a dot at its end stays.
    fn destination(&self, scope: &Scope<'_>, path: &str) -> String {
        let path = if path.is_empty() || path == "." {
            "./"
        } else {
            path
        };
        let mut full = if path.starts_with('/') {
            clean_path(path)
        } else {
            join_path(&["/", &self.stages.list[scope.at].folder, path])
        };
        if path.ends_with('/') && !full.ends_with('/') {
            full.push('/');
        } else if path.ends_with("/.") {
            full.push_str(if full == "/" { "." } else { "/." });
        }
        full
    }

    fn transfer(
        &mut self,
        scope: &mut Scope<'_>,
        mut plan: Plan<'_>,
    ) -> Result<(), DockerfileError> {
        let env = std::rc::Rc::clone(&self.stages.list[scope.at].env);
        let meta = self.named(scope, &plan.name, &env);
        let title = meta.name.clone().unwrap_or_default();
        for source in &plan.transfer.sources {
            match git::parse(source, false) {
                Some(git) => {
                    let git = git.map_err(ConvertError::Git)?;
                    self.git_copy(&mut plan, git, &title)?;
                }
                None if is_http(source) => self.http_copy(&mut plan, source, &title)?,
                None => self.file_copy(scope, &mut plan, source),
            }
        }
        for file in &plan.transfer.inline {
            self.inline_copy(&mut plan, file)?;
        }
        let text = format!("{} # buildkit", history(&plan));
        self.apply(scope, plan, meta, &env)?;
        self.note(scope, text, true)
    }

    fn git_copy(
        &mut self,
        plan: &mut Plan<'_>,
        mut git: GitRef,
        title: &str,
    ) -> Result<(), DockerfileError> {
        if !plan.is_add {
            return Err(ConvertError::CopyGit.into());
        }
        if let (Some(flag), Some(url)) = (plan.transfer.keep_git_dir, git.keep_git_dir)
            && flag != url
        {
            return Err(ConvertError::KeepGitDir.into());
        }
        git.keep_git_dir = git.keep_git_dir.or(plan.transfer.keep_git_dir);
        let checksum = &plan.transfer.checksum;
        if !checksum.is_empty() && !git.checksum.is_empty() && *checksum != git.checksum {
            let (flag, url) = (checksum.clone(), git.checksum);
            return Err(ConvertError::ChecksumMismatch(flag, url).into());
        }
        if git.checksum.is_empty() {
            git.checksum.clone_from(checksum);
        }
        let (identifier, attrs, features) = git.source();
        let meta = Meta::named(title)
            .at(plan.command.span)
            .with_caps(&features);
        let root = self.graph.source(&identifier, attrs, None, &meta)?;
        let copy = self.copy_of(plan, "/".to_owned());
        plan.copies.push((Some(root), copy));
        Ok(())
    }

    fn http_copy(
        &mut self,
        plan: &mut Plan<'_>,
        url: &str,
        title: &str,
    ) -> Result<(), DockerfileError> {
        if !plan.is_add {
            return Err(ConvertError::CopyUrl.into());
        }
        let mut features = vec![caps::SOURCE_HTTP];
        let filename = download_name(url);
        let mut attrs = std::collections::BTreeMap::new();
        attrs.insert("http.filename".to_owned(), filename.clone());
        let checksum = &plan.transfer.checksum;
        if !checksum.is_empty() {
            check_digest(checksum)?;
            attrs.insert("http.checksum".to_owned(), checksum.clone());
            features.push(caps::SOURCE_HTTP_CHECKSUM);
        }
        let meta = Meta::named(title)
            .at(plan.command.span)
            .with_caps(&features);
        let root = self.graph.source(url, attrs, None, &meta)?;
        let mut copy = self.copy_of(plan, format!("/{filename}"));
        copy.attempt_unpack_docker_compatibility = plan.transfer.unpack.unwrap_or(false);
        plan.copies.push((Some(root), copy));
        Ok(())
    }

    fn file_copy(&mut self, scope: &mut Scope<'_>, plan: &mut Plan<'_>, source: &str) {
        if plan.from_context && !self.ignore.has_exceptions() {
            let path = clean_path(source);
            if self.ignore.matches(path.trim_start_matches('/')) {
                let verb = if plan.is_add { "Add" } else { "Copy" };
                scope
                    .lint
                    .warn(Rule::CopyIgnoredFile, plan.command.span, &[verb, source]);
            }
        }
        let mut root = source;
        let (mut include, mut required) = (Vec::new(), Vec::new());
        if plan.transfer.parents {
            // what stands before a part `.` is not among the folders that are kept
            let (parent, pattern) = source.split_once("/./").unwrap_or(("/", source));
            let pattern = join_path(&["/", pattern]);
            root = parent;
            include.push(pattern.trim_start_matches('/').to_owned());
            if !has_wildcards(parent) && !has_wildcards(&pattern) {
                required.push(join_path(&["/", parent, &pattern]));
            }
        }
        let mut copy = self.copy_of(plan, join_path(&["/", root]));
        copy.follow_symlink = true;
        copy.dir_copy_contents = true;
        copy.allow_wildcard = true;
        copy.allow_empty_wildcard = true;
        copy.include_patterns = include;
        copy.required_paths = required;
        copy.attempt_unpack_docker_compatibility = plan.transfer.unpack.unwrap_or(plan.is_add);
        plan.copies.push((plan.from, copy));
    }

    fn inline_copy(
        &mut self,
        plan: &mut Plan<'_>,
        file: &InlineFile,
    ) -> Result<(), DockerfileError> {
        let data = file.data.clone().into_bytes();
        let root = self.inline_file(&file.name, 0o644, data)?;
        let copy = self.copy_of(plan, join_path(&["/", &file.name]));
        plan.copies.push((root, copy));
        Ok(())
    }

    /// A copy with what all copies of an instruction share.
    fn copy_of(&self, plan: &Plan<'_>, src: String) -> pb::FileActionCopy {
        let (mode, mode_str) = match &plan.mode {
            None => (-1, String::new()),
            Some(Mode::Octal(mode)) => (*mode, String::new()),
            Some(Mode::Symbolic(text)) => (0, text.clone()),
        };
        pb::FileActionCopy {
            src,
            dest: plan.destination.clone(),
            mode,
            mode_str,
            create_dest_path: true,
            exclude_patterns: plan.transfer.exclude.clone(),
            timestamp: self.nanoseconds(),
            ..pb::FileActionCopy::default()
        }
    }

    /// Puts the copies upon the stage's root, or beside it as a layer of their own.
    fn apply(
        &mut self,
        scope: &Scope<'_>,
        plan: Plan<'_>,
        mut meta: Meta,
        env: &EnvList,
    ) -> Result<(), DockerfileError> {
        let state = &self.stages.list[scope.at];
        let root = state.root;
        meta.span = Some(plan.command.span);
        meta.ignore_cache = state.ignore_cache;
        if matches!(plan.mode, Some(Mode::Symbolic(_))) {
            meta.caps.push(caps::FILE_MODE_STRING);
        }
        if plan
            .copies
            .iter()
            .any(|(_, c)| !c.include_patterns.is_empty() || !c.exclude_patterns.is_empty())
        {
            meta.caps.push(caps::FILE_PATTERNS);
        }
        let link = plan.transfer.link && plan.transfer.chmod.is_empty();
        let below = if link { None } else { root };
        // names of users are looked up in the root that the files go to
        let owner = owner(&plan.transfer.chown, if below.is_some() { 0 } else { -1 });
        let mut copies = plan.copies;
        for (_, copy) in &mut copies {
            copy.owner.clone_from(&owner);
        }
        if !link {
            let root = self.file_op(root, copies, meta)?;
            self.state(scope).root = root;
            return Ok(());
        }
        let title = meta.name.clone().unwrap_or_default();
        let id = crate::llb::digest(format!("{}:{title}", scope.at).as_bytes());
        let group = |weak| pb::ProgressGroup {
            id: id.clone(),
            name: title.clone(),
            weak,
        };
        let mut upper = meta.clone();
        upper.group = Some(group(true));
        let layer = self.file_op(None, copies, upper)?;
        self.state(scope).number -= 1;
        let shown = format!("LINK {}", plan.name);
        meta.name = self.named(scope, &shown, env).name;
        meta.group = Some(group(false));
        meta.caps.clear();
        let root = self.graph.merge_op(&[root, layer], &meta)?;
        self.state(scope).root = root;
        Ok(())
    }
}

/// The instruction in the image's history.
fn history(plan: &Plan<'_>) -> String {
    let transfer = plan.transfer;
    let mut text = if plan.is_add { "ADD" } else { "COPY" }.to_owned();
    if transfer.parents {
        text.push_str(" --parents");
    }
    for (flag, value) in [("chown", &transfer.chown), ("chmod", &transfer.chmod)] {
        if !value.is_empty() {
            text.push_str(&format!(" --{flag}={value}"));
        }
    }
    for source in &transfer.sources {
        text.push_str(&format!(" {source}"));
    }
    for file in &transfer.inline {
        text.push_str(&format!(" <<{}", file.name));
    }
    format!("{text} {}", transfer.destination)
}

/// `user[:group]` by name or number; names are looked up in an operation's input.
pub(super) fn owner(text: &str, input: i64) -> Option<pb::ChownOpt> {
    if text.is_empty() {
        return None;
    }
    let opt = |name: &str| {
        use pb::user_opt::User;
        let id = if name == "root" {
            Some(0)
        } else {
            number(name)
        };
        let named = || {
            User::ByName(pb::NamedUserOpt {
                name: name.to_owned(),
                input,
            })
        };
        // an empty name is user 0, as an absent number is
        let user = match id {
            Some(id) => User::ById(id),
            None if name.is_empty() => User::ById(0),
            None => named(),
        };
        pb::UserOpt { user: Some(user) }
    };
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    Some(pb::ChownOpt {
        user: Some(opt(user)),
        group: group.map(opt),
    })
}

fn number(text: &str) -> Option<u32> {
    let number: i32 = text.parse().ok()?;
    u32::try_from(number).ok()
}

fn is_http(source: &str) -> bool {
    let http = source.starts_with("http://") || source.starts_with("https://");
    http && git::parse(source, false).is_none()
}

/// The name that a download gets: the last part of the URL's path.
fn download_name(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.split(['?', '#']).next().unwrap_or(rest);
    let path = rest.find('/').map_or("", |at| &rest[at..]);
    let path = git::decode(&path.replace('+', "%2B"));
    match base_name(&path) {
        "." | "/" | ".." => "__unnamed__".to_owned(),
        name => name.to_owned(),
    }
}

fn has_wildcards(text: &str) -> bool {
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '*' | '?' | '[' => return true,
            '\\' => {
                chars.next();
            }
            _ => {}
        }
    }
    false
}

/// Whether a checksum is a digest.
fn check_digest(text: &str) -> Result<(), ConvertError> {
    let Some((algorithm, hex)) = text
        .split_once(':')
        .filter(|(a, h)| !a.is_empty() && !h.is_empty())
    else {
        return Err(ConvertError::Digest("invalid checksum digest format"));
    };
    let length = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => return Err(ConvertError::Digest("unsupported digest algorithm")),
    };
    if hex.len() != length {
        return Err(ConvertError::Digest("invalid checksum digest length"));
    }
    if !hex
        .bytes()
        .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    {
        return Err(ConvertError::Digest("invalid checksum digest format"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_downloads() {
        for (url, name) in [
            ("http://h/a/b.tar?x=1#y", "b.tar"),
            ("http://h", "__unnamed__"),
            ("http://h/", "__unnamed__"),
            ("http://h/a%20b+c", "a b+c"),
            ("http://h/a/..", "__unnamed__"),
        ] {
            assert_eq!(download_name(url), name, "{url}");
        }
    }
}

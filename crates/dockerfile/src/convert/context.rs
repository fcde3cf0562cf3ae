//! The main context, and the contexts that are passed in by name.

use std::collections::{BTreeMap, BTreeSet};

use oci::{Platform, Reference};

use super::base::{ImageRequest, Store, pin};
use super::git;
use super::image::Image;
use super::options::Context;
use super::{ConvertError, Converter};
use crate::env::EnvList;
use crate::error::DockerfileError;
use crate::gofmt::join_path;
use crate::ignore;
use crate::llb::{Meta, Output, State, caps, pb};

/// A context that is passed in by name.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    name: String,
    value: String,
    platform: Platform,
}

/// What a named context holds.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    pub(super) root: State,
    pub(super) image: Option<Image>,
    pub(super) env: EnvList,
    pub(super) folder: String,
}

/// A folder of the client's, of which is known at the end what of it is needed.
#[derive(Debug)]
pub(super) struct OpenLocal {
    pub(super) output: Output,
    pub(super) name: String,
    pub(super) session: String,
    pub(super) hint: String,
    pub(super) excludes: Vec<String>,
}

impl Converter<'_> {
    /// Makes the main context's source; a folder's attributes follow at the end.
    pub(super) fn open_context(&mut self) -> Result<State, DockerfileError> {
        Ok(match &self.options.context {
            Context::Local { .. } => {
                let meta = Meta::internal("load build context");
                Some(self.graph.open_source("context", &meta)?)
            }
            Context::Git { url, keep_git_dir } => {
                let meta = Meta::internal(&format!("load git source {url}"));
                self.git_source(url, *keep_git_dir, meta)?
            }
            Context::Http { url, unpack } => {
                let attrs = [("http.filename".to_owned(), "context".to_owned())].into();
                let meta = Meta::internal("load remote build context");
                let meta = meta.with_caps(&[caps::SOURCE_HTTP]);
                let file = Some(self.graph.source(url, attrs, None, &meta)?);
                if *unpack { self.unpacked(file)? } else { file }
            }
            Context::Definition(definition) => self.graph.import(definition),
            Context::Empty => None,
        })
    }

    fn git_source(&mut self, url: &str, keep: bool, meta: Meta) -> Result<State, DockerfileError> {
        let Some(git) = git::parse(url, true) else {
            let (value, name) = (url.to_owned(), "context".to_owned());
            return Err(ConvertError::ContextSpecifier { value, name }.into());
        };
        let mut git = git.map_err(ConvertError::Git)?;
        git.keep_git_dir = git.keep_git_dir.or(Some(keep));
        let (identifier, attrs, features) = git.source();
        let meta = meta.with_caps(&features);
        Ok(Some(self.graph.source(&identifier, attrs, None, &meta)?))
    }

    /// An archive's files.
    fn unpacked(&mut self, file: State) -> Result<State, DockerfileError> {
        let copy = pb::FileActionCopy {
            src: "/context".to_owned(),
            dest: "/".to_owned(),
            mode: -1,
            attempt_unpack_docker_compatibility: true,
            timestamp: -1,
            ..pb::FileActionCopy::default()
        };
        let meta = Meta::internal("extracting build context");
        self.file_op(None, vec![(file, copy)], meta)
    }

    /// The context that stands for a stage or an image, if one is passed in.
    pub(super) fn named_context(
        &self,
        name: &str,
        platform: Option<&Platform>,
    ) -> Result<Option<Named>, DockerfileError> {
        let reserved = name.eq_ignore_ascii_case("scratch") || name.eq_ignore_ascii_case("context");
        if self.options.contexts.is_empty() || reserved {
            return Ok(None);
        }
        let Ok(reference) = name.parse::<Reference>() else {
            return Ok(None);
        };
        let familiar = reference.familiar();
        let short = familiar.strip_suffix(":latest").unwrap_or(&familiar);
        let platform = platform.unwrap_or(&self.platform);
        let exact = format!("{short}::{platform}");
        for key in [exact.as_str(), short] {
            if let Some(value) = self.options.contexts.get(key) {
                return Ok(Some(Named {
                    name: key.to_owned(),
                    value: value.clone(),
                    platform: platform.clone(),
                }));
            }
        }
        Ok(None)
    }

    /// Makes a named context's source.
    pub(super) fn load_context(
        &mut self,
        named: &Named,
        at: usize,
    ) -> Result<Loaded, DockerfileError> {
        let Named { name, value, .. } = named;
        let Some((kind, rest)) = value.split_once(':') else {
            let (value, name) = (value.clone(), name.clone());
            return Err(ConvertError::ContextSpecifier { value, name }.into());
        };
        match kind {
            "docker-image" => self.load_image(named, rest.trim_start_matches("//")),
            "oci-layout" => self.load_layout(named, rest.trim_start_matches("//")),
            "local" => self.load_local(named, rest, at),
            "input" => self.load_input(named, rest),
            kind if kind == "git" || kind.starts_with("git@") || kind == "ssh" => {
                let meta = Meta::named(format!("[context {name}] {value}"));
                let root = self.git_source(value, false, meta)?;
                Ok(Loaded {
                    root,
                    ..Loaded::default()
                })
            }
            "http" | "https" => {
                let mut meta = Meta::named(format!("[context {name}] {value}"));
                let root = if git::parse(value, true).is_some() {
                    self.git_source(value, false, meta)?
                } else {
                    meta = meta.with_caps(&[caps::SOURCE_HTTP]);
                    Some(self.graph.source(value, BTreeMap::new(), None, &meta)?)
                };
                Ok(Loaded {
                    root,
                    ..Loaded::default()
                })
            }
            kind => {
                let (kind, name) = (kind.to_owned(), name.clone());
                Err(ConvertError::ContextSource { kind, name }.into())
            }
        }
    }

    fn load_image(&mut self, named: &Named, text: &str) -> Result<Loaded, DockerfileError> {
        if text == "scratch" {
            return Ok(Loaded::default());
        }
        let reference =
            text.parse::<Reference>()
                .map_err(|error| ConvertError::StageReference {
                    name: text.to_owned(),
                    error,
                })?;
        let reference = reference.or_latest().to_string();
        let request = ImageRequest {
            log_name: format!("[context {}] load metadata for {text}", named.name),
            reference: reference.clone(),
            platform: named.platform.clone(),
            mode: self.options.resolve_mode.name(),
            store: None,
        };
        let (answer, image) = self.ask_context(&request, named)?;
        let pinned = pin(answer.reference.as_deref().unwrap_or(&reference), &answer);
        self.remember(
            &reference,
            &pinned,
            &named.platform,
            answer.digest.as_deref(),
        );
        let (attrs, mut features) = self.image_attrs();
        features.push(caps::SOURCE_IMAGE);
        let meta = Meta::named(format!("[context {}] {text}", named.name)).with_caps(&features);
        let identifier = format!("docker-image://{pinned}");
        let root = self
            .graph
            .source(&identifier, attrs, Some(&named.platform), &meta)?;
        Ok(with_config(root, image))
    }

    fn ask_context(
        &mut self,
        request: &ImageRequest,
        named: &Named,
    ) -> Result<(super::ResolvedImage, Image), DockerfileError> {
        let answer = self.ask(request).map_err(|error| ConvertError::Resolve {
            name: named.value.clone(),
            error,
            hint: String::new(),
        })?;
        let image = serde_json::from_slice(&answer.config).map_err(ConvertError::ImageConfig)?;
        Ok((answer, image))
    }

    /// `store@sha256:…` or `store:tag@sha256:…` in a layout of the client's.
    fn load_layout(&mut self, named: &Named, text: &str) -> Result<Loaded, DockerfileError> {
        let Some((store, digest)) = text.split_once('@') else {
            return Err(ConvertError::LayoutDigest(text.to_owned()).into());
        };
        let id = store.split(':').next().unwrap_or(store).to_owned();
        let plain = named.name.split("::").next().unwrap_or(&named.name);
        let shown = plain
            .parse::<Reference>()
            .map(|r| r.name())
            .unwrap_or_else(|_| id.clone());
        let reference = format!("{shown}@{digest}");
        let store = Store {
            session: self.options.session.clone(),
            id,
        };
        let request = ImageRequest {
            log_name: format!("[context {}] load metadata for {reference}", named.name),
            reference: reference.clone(),
            platform: named.platform.clone(),
            mode: self.options.resolve_mode.name(),
            store: Some(store.clone()),
        };
        let (_, image) = self.ask_context(&request, named)?;
        self.remember(&reference, &reference, &named.platform, Some(digest));
        let attrs = [
            ("oci.session".to_owned(), store.session),
            ("oci.store".to_owned(), store.id),
        ];
        let meta = Meta::named(format!("[context {}] OCI load from client", named.name));
        let meta = meta.with_caps(&[caps::SOURCE_OCI_LAYOUT]);
        let identifier = format!("oci-layout://{reference}");
        let platform = Some(&named.platform);
        let root = self
            .graph
            .source(&identifier, attrs.into(), platform, &meta)?;
        Ok(with_config(root, image))
    }

    fn load_local(
        &mut self,
        named: &Named,
        local: &str,
        at: usize,
    ) -> Result<Loaded, DockerfileError> {
        let log = format!("[context {}] load .dockerignore", named.name);
        let file =
            self.resolve
                .ignore_file(local, &log)
                .map_err(|error| ConvertError::ContextLoad {
                    name: named.name.clone(),
                    error,
                })?;
        let excludes = ignore::read(&file).map_err(ConvertError::ContextIgnore)?;
        let meta = Meta::named(format!("[context {}] load from client", named.name));
        let output = self.graph.open_source(&format!("local://{local}"), &meta)?;
        self.stages.list[at].open_local = Some(OpenLocal {
            output,
            name: local.to_owned(),
            session: self.options.session.clone(),
            hint: format!("context:{}", named.name),
            excludes,
        });
        Ok(Loaded {
            root: Some(output),
            folder: "/".to_owned(),
            ..Loaded::default()
        })
    }

    fn load_input(&mut self, named: &Named, input: &str) -> Result<Loaded, DockerfileError> {
        let Some(found) = self.resolve.input(input) else {
            let (input, name) = (input.to_owned(), named.name.clone());
            return Err(ConvertError::ContextInput { input, name }.into());
        };
        let root = self.graph.import(&found.definition);
        let Some(config) = found.config else {
            return Ok(Loaded {
                root,
                ..Loaded::default()
            });
        };
        let image: Image = serde_json::from_slice(&config).map_err(ConvertError::ImageConfig)?;
        Ok(Loaded {
            root,
            ..with_state(image)
        })
    }

    /// Gives the client's folders their attributes, now that it is known what of them is needed.
    pub(super) fn close_locals(&mut self) {
        if let (
            Context::Local {
                name,
                session,
                excludes,
                hint,
            },
            Some(output),
        ) = (&self.options.context, self.main)
        {
            let local = OpenLocal {
                output,
                name: name.clone(),
                session: session.clone(),
                hint: hint.clone(),
                excludes: excludes.clone(),
            };
            let mut paths = BTreeSet::new();
            for state in &self.stages.list {
                paths.extend(state.context_paths.iter().cloned());
            }
            self.close_local(&local, &paths);
        }
        for at in 0..self.stages.list.len() {
            if let Some(local) = self.stages.list[at].open_local.take() {
                let paths = self.stages.list[at].paths.borrow().clone();
                self.close_local(&local, &paths);
            }
        }
    }

    fn close_local(&mut self, local: &OpenLocal, paths: &BTreeSet<String>) {
        let mut attrs = BTreeMap::new();
        let mut features = vec![caps::SOURCE_LOCAL];
        let mut set = |key: &str, value: String, feature| {
            attrs.insert(key.to_owned(), value);
            features.push(feature);
        };
        if local.session.is_empty() {
            set(
                "local.unique",
                local.hint.clone(),
                caps::SOURCE_LOCAL_UNIQUE,
            );
        } else {
            set(
                "local.session",
                local.session.clone(),
                caps::SOURCE_LOCAL_SESSION,
            );
        }
        if !local.hint.is_empty() {
            set(
                "local.sharedkeyhint",
                local.hint.clone(),
                caps::SOURCE_LOCAL_HINT,
            );
        }
        if let Some(json) = list_attr(&local.excludes) {
            set("local.excludepatterns", json, caps::SOURCE_LOCAL_EXCLUDE);
        }
        let needed: BTreeSet<String> = paths
            .iter()
            .map(|p| join_path(&[".", p.trim_start_matches('/')]))
            .collect();
        let needed: Vec<String> = needed.into_iter().collect();
        if !paths.contains("/")
            && let Some(json) = list_attr(&needed)
        {
            set("local.followpaths", json, caps::SOURCE_LOCAL_FOLLOW);
        }
        let identifier = format!("local://{}", local.name);
        self.graph
            .close_source(local.output, &identifier, attrs, &features);
    }
}

/// A list as an attribute's JSON, if there is anything in it.
fn list_attr(items: &[String]) -> Option<String> {
    if items.is_empty() {
        return None;
    }
    String::from_utf8(crate::gofmt::json(&items).ok()?).ok()
}

fn with_config(root: Output, image: Image) -> Loaded {
    Loaded {
        root: Some(root),
        ..with_state(image)
    }
}

/// An image's environment and folder, which hold for the steps upon it.
fn with_state(image: Image) -> Loaded {
    let mut env = EnvList::default();
    for text in &image.config.env {
        let (key, value) = crate::env::split(text);
        if !key.is_empty() {
            env.set(key, value);
        }
    }
    let folder = image.config.working_dir.clone();
    Loaded {
        root: None,
        env,
        folder,
        image: Some(image),
    }
}

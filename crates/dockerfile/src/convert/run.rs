//! `RUN`: steps that run a program.

use std::collections::BTreeMap;

use super::args::Demand;
use super::step::{Scope, unmatched};
use super::{ConvertError, Converter};
use crate::env::{EnvList, Lookup};
use crate::error::DockerfileError;
use crate::expand::Lexer;
use crate::gofmt::{base_name, clean_path, join_path};
use crate::instruction::{Command, Mount, MountKind, Network, Run, Sharing, parse_mount};
use crate::llb::{Inputs, Meta, State, caps, nth, pb};
use crate::syntax::{chomp, parse_heredoc};

/// A mount of files, in the making.
struct Files {
    target: String,
    root: State,
    message: pb::Mount,
    /// Whether what is written there is a result.
    output: bool,
}

/// What a step's mounts and files come to.
#[derive(Default)]
struct Parts {
    files: Vec<Files>,
    secrets: Vec<pb::Mount>,
    secret_env: Vec<pb::SecretEnv>,
    agents: Vec<pb::Mount>,
    /// Variables that hold secrets, for the step's name.
    masked: Vec<String>,
}

/// An environment in which secrets are shown as stars.
struct Masked<'a> {
    env: &'a EnvList,
    names: &'a [String],
}

impl Lookup for Masked<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        if self.names.iter().any(|n| n == name) {
            Some("****")
        } else {
            self.env.get(name)
        }
    }

    fn names(&self) -> Vec<&str> {
        self.env.names()
    }
}

impl Converter<'_> {
    pub(super) fn run(
        &mut self,
        scope: &mut Scope<'_>,
        command: &Command,
        run: &Run,
        sources: &[usize],
    ) -> Result<(), DockerfileError> {
        // a program may look at everything
        self.state(scope).paths.borrow_mut().insert("/".to_owned());
        let mut parts = Parts::default();
        let mut shown = command.code.clone();
        let mut words = self.words(scope, run, &mut parts, &mut shown)?;
        if run.line.shell {
            words = self.stages.list[scope.at].image.in_shell(&words);
        }
        for (number, text) in run.mounts.iter().enumerate() {
            let mount = self.expand_mount(scope, command, text)?;
            let source = sources.get(number).copied();
            self.mount(scope, command, mount, source, &mut parts)?;
        }
        if self.options.shm_size > 0 {
            parts.files.push(tmpfs("/dev/shm", self.options.shm_size));
        }
        let env = std::rc::Rc::clone(&self.stages.list[scope.at].env);
        let lexer = Lexer {
            raw_quotes: true,
            skip_unset: true,
            ..self.lexer
        };
        let masked = Masked {
            env: &env,
            names: &parts.masked,
        };
        let shown = self.shown(&shown, lexer, &masked);
        let mut meta = self.named(scope, &shown, &env).at(command.span);
        meta.command = Some(command.code.clone());
        meta.ignore_cache = self.stages.list[scope.at].ignore_cache;
        let text = format!("RUN {} # buildkit", self.history_line(scope, &words, &env));
        self.exec(scope, run, words, parts, meta)?;
        self.note(scope, text, true)
    }

    /// The program's words, with here-documents where they belong.
    fn words(
        &mut self,
        scope: &Scope<'_>,
        run: &Run,
        parts: &mut Parts,
        shown: &mut String,
    ) -> Result<Vec<String>, DockerfileError> {
        let [first, ..] = run.files.as_slice() else {
            return Ok(run.line.words.clone());
        };
        let [line] = run.line.words.as_slice() else {
            return Err(ConvertError::RunHeredoc(format!("[{}]", run.line.words.join(" "))).into());
        };
        if parse_heredoc(line).ok().flatten().is_none() {
            // the shell knows here-documents: it gets the line with the documents behind it
            let documents = run.files.iter().map(|f| format!("\n{}{}", f.data, f.name));
            return Ok(vec![line.clone() + &documents.collect::<String>()]);
        }
        let data = if first.chomp {
            chomp(&first.data)
        } else {
            first.data.clone()
        };
        shown.push_str(&format!(" ({})", summary(&first.data)));
        let is_script = data.starts_with("#!");
        if !is_script || self.stages.list[scope.at].image.os == "windows" {
            return Ok(vec![data]);
        }
        let path = join_path(&["/dev/pipes/", &first.name]);
        let file = self.inline_file(&first.name, 0o755, data.into_bytes())?;
        parts.files.push(Files {
            target: "/dev/pipes/".to_owned(),
            root: file,
            message: pb::Mount {
                selector: "/".to_owned(),
                readonly: true,
                ..pb::Mount::default()
            },
            output: false,
        });
        Ok(vec![path])
    }

    /// A root with one file in it.
    pub(super) fn inline_file(
        &mut self,
        name: &str,
        mode: i32,
        data: Vec<u8>,
    ) -> Result<State, DockerfileError> {
        let mkfile = pb::FileActionMkFile {
            path: join_path(&["/", name]),
            mode,
            data,
            owner: None,
            timestamp: -1,
        };
        let action = pb::file_action::Action::Mkfile(mkfile);
        self.actions(
            None,
            vec![(None, action)],
            Meta::internal("preparing inline document"),
        )
    }

    fn expand_mount(
        &mut self,
        scope: &mut Scope<'_>,
        command: &Command,
        text: &str,
    ) -> Result<Mount, DockerfileError> {
        let state = &self.stages.list[scope.at];
        parse_mount(text, |value| -> Result<String, DockerfileError> {
            let expanded = self.lexer.expand(value, &*state.env)?;
            unmatched(&expanded.unmatched, state, command.span, scope.lint);
            Ok(expanded.text)
        })
    }

    fn mount(
        &mut self,
        scope: &Scope<'_>,
        command: &Command,
        mount: Mount,
        source: Option<usize>,
        parts: &mut Parts,
    ) -> Result<(), DockerfileError> {
        match mount.kind {
            MountKind::Secret => self.secret(scope, command, mount, parts),
            MountKind::Ssh => {
                self.agent(scope, command, mount, parts);
                Ok(())
            }
            MountKind::Bind | MountKind::Cache | MountKind::Tmpfs => {
                self.files(scope, &mount, source, parts)
            }
        }
    }

    fn secret(
        &mut self,
        scope: &Scope<'_>,
        command: &Command,
        mount: Mount,
        parts: &mut Parts,
    ) -> Result<(), DockerfileError> {
        let named = [&mount.source, &mount.id]
            .into_iter()
            .find(|n| !n.is_empty());
        let id = named.map_or(base_name(&mount.target), |n| n).to_owned();
        let demand = Demand {
            required: mount.required,
            span: command.span,
        };
        self.state(scope)
            .outline
            .secrets
            .entry(id.clone())
            .or_insert(demand);
        let mut target = Some(mount.target).filter(|t| !t.is_empty());
        match mount.env {
            Some(name) => {
                parts.masked.push(name.clone());
                parts.secret_env.push(pb::SecretEnv {
                    id: id.clone(),
                    name,
                    optional: !mount.required,
                });
            }
            None => {
                target.get_or_insert_with(|| format!("/run/secrets/{}", base_name(&id)));
            }
        }
        if let Some(dest) = target {
            parts.secrets.push(pb::Mount {
                input: -1,
                dest,
                mount_type: pb::MountType::Secret.into(),
                secret_opt: Some(pb::SecretOpt {
                    id,
                    uid: mount.uid.unwrap_or_default(),
                    gid: mount.gid.unwrap_or_default(),
                    mode: mount.mode.unwrap_or(0o400),
                    optional: !mount.required,
                }),
                ..pb::Mount::default()
            });
        }
        Ok(())
    }

    fn agent(&mut self, scope: &Scope<'_>, command: &Command, mount: Mount, parts: &mut Parts) {
        let name = if mount.id.is_empty() {
            "default"
        } else {
            &mount.id
        };
        let demand = Demand {
            required: mount.required,
            span: command.span,
        };
        self.state(scope)
            .outline
            .ssh
            .entry(name.to_owned())
            .or_insert(demand);
        let dest = if mount.target.is_empty() {
            format!("/run/buildkit/ssh_agent.{}", parts.agents.len())
        } else {
            mount.target
        };
        parts.agents.push(pb::Mount {
            input: -1,
            dest,
            mount_type: pb::MountType::Ssh.into(),
            ssh_opt: Some(pb::SshOpt {
                // nothing stands for the default agent
                id: mount.id,
                uid: mount.uid.unwrap_or_default(),
                gid: mount.gid.unwrap_or_default(),
                mode: mount.mode.unwrap_or(0o600),
                optional: !mount.required,
            }),
            ..pb::Mount::default()
        });
    }

    fn files(
        &mut self,
        scope: &Scope<'_>,
        mount: &Mount,
        source: Option<usize>,
        parts: &mut Parts,
    ) -> Result<(), DockerfileError> {
        let target = if clean_path(&mount.target).starts_with('/') {
            mount.target.clone()
        } else {
            join_path(&["/", &self.stages.list[scope.at].folder, &mount.target])
        };
        if target == "/" || clean_path(&target) == "/" {
            return Err(ConvertError::MountTarget("/".to_owned()).into());
        }
        if mount.kind == MountKind::Tmpfs {
            parts.files.push(Files {
                message: pb::Mount {
                    readonly: mount.readonly,
                    ..tmpfs("", mount.size).message
                },
                ..tmpfs(&target, mount.size)
            });
            return Ok(());
        }
        let selector = join_path(&["/", &mount.source]);
        let mut root = self.mount_root(scope, mount, source, &selector)?;
        let mut message = pb::Mount {
            readonly: mount.readonly,
            ..pb::Mount::default()
        };
        if selector != "/" {
            message.selector = selector;
        } else if mount.uid.is_some() || mount.gid.is_some() || mount.mode.is_some() {
            root = self.owned_cache(mount, root)?;
            "/cache".clone_into(&mut message.selector);
        }
        if mount.kind == MountKind::Cache {
            message.mount_type = pb::MountType::Cache.into();
            message.cache_opt = Some(self.cache(mount));
        }
        parts.files.push(Files {
            target,
            root,
            message,
            output: false,
        });
        Ok(())
    }

    /// What a mount shows, noting which part of it.
    fn mount_root(
        &mut self,
        scope: &Scope<'_>,
        mount: &Mount,
        source: Option<usize>,
        selector: &str,
    ) -> Result<State, DockerfileError> {
        if mount.from.is_empty() {
            if mount.kind == MountKind::Cache {
                return Ok(None);
            }
            let main = self.main;
            self.state(scope).context_paths.insert(selector.to_owned());
            return Ok(main);
        }
        let order = || ConvertError::MountOrder {
            from: mount.from.clone(),
            target: mount.target.clone(),
        };
        let source = source.map(|s| &self.stages.list[s]);
        let source = source.filter(|s| s.dispatched).ok_or_else(order)?;
        source.paths.borrow_mut().insert(selector.to_owned());
        Ok(source.root)
    }

    fn cache(&self, mount: &Mount) -> pb::CacheOpt {
        let id = if mount.id.is_empty() {
            clean_path(&mount.target)
        } else {
            mount.id.clone()
        };
        let sharing = match mount.sharing {
            None | Some(Sharing::Shared) => pb::CacheSharingOpt::Shared,
            Some(Sharing::Private) => pb::CacheSharingOpt::Private,
            Some(Sharing::Locked) => pb::CacheSharingOpt::Locked,
        };
        pb::CacheOpt {
            id: format!("{}/{id}", self.options.cache_namespace),
            sharing: sharing.into(),
        }
    }

    /// A cache that begins with a folder of this owner and these permissions.
    fn owned_cache(&mut self, mount: &Mount, root: State) -> Result<State, DockerfileError> {
        let user = |id: Option<u32>| pb::UserOpt {
            user: Some(pb::user_opt::User::ById(id.unwrap_or_default())),
        };
        let mkdir = pb::FileActionMkDir {
            path: "/cache".to_owned(),
            mode: i32::try_from(mount.mode.unwrap_or(0o755) & 0o777).unwrap_or(0o755),
            make_parents: false,
            owner: Some(pb::ChownOpt {
                user: Some(user(mount.uid)),
                group: Some(user(mount.gid)),
            }),
            timestamp: -1,
        };
        let action = pb::file_action::Action::Mkdir(mkdir);
        let meta = Meta::internal("setting cache mount permissions");
        self.actions(root, vec![(None, action)], meta)
    }

    fn exec(
        &mut self,
        scope: &Scope<'_>,
        run: &Run,
        words: Vec<String>,
        mut parts: Parts,
        mut meta: Meta,
    ) -> Result<(), DockerfileError> {
        let root = self.stages.list[scope.at].root;
        parts.files.push(Files {
            target: "/".to_owned(),
            root,
            message: pb::Mount::default(),
            output: true,
        });
        parts.files.sort_by(|a, b| a.target.cmp(&b.target));
        let mut env = std::rc::Rc::clone(&self.stages.list[scope.at].env);
        if let Some(agent) = parts.agents.first()
            && env.get("SSH_AUTH_SOCK").is_none()
        {
            std::rc::Rc::make_mut(&mut env).set("SSH_AUTH_SOCK", agent.dest.clone());
        }
        let network = match run.network {
            Network::Default => self.options.network,
            Network::None => pb::NetMode::None,
            Network::Host => pb::NetMode::Host,
        };
        let mut op = pb::ExecOp {
            meta: Some(self.process(scope, words, &env)),
            network: network.into(),
            security: if run.insecure {
                pb::SecurityMode::Insecure
            } else {
                pb::SecurityMode::Sandbox
            }
            .into(),
            cdi_devices: self.devices(run),
            ..pb::ExecOp::default()
        };
        features(&op, &parts, &mut meta.caps);
        let mut inputs = Inputs::default();
        let mut results = 0;
        let mut root_result = 0;
        for files in parts.files {
            let mut mount = files.message;
            mount.input = inputs.number(files.root);
            mount.output = -1;
            if files.output {
                mount.output = results;
                root_result = results;
                results += 1;
            }
            mount.dest = files.target;
            op.mounts.push(mount);
        }
        op.mounts.extend(parts.secrets);
        op.mounts.extend(parts.agents);
        op.secretenv = parts.secret_env;
        let platform = self.stages.list[scope.at].platform.clone();
        let op = pb::op::Op::Exec(op);
        let output = self.graph.add(&inputs, op, platform.as_ref(), &meta)?;
        self.state(scope).root = Some(nth(output, root_result));
        Ok(())
    }

    fn process(&self, scope: &Scope<'_>, args: Vec<String>, env: &EnvList) -> pb::Meta {
        let state = &self.stages.list[scope.at];
        let hosts = self.options.extra_hosts.iter();
        pb::Meta {
            args,
            env: env.to_array(),
            cwd: state.folder.clone(),
            user: state.user.clone(),
            proxy_env: proxies(&self.options.build_args),
            extra_hosts: hosts
                .map(|(host, ip)| pb::HostIp {
                    host: host.clone(),
                    ip: ip.to_string(),
                })
                .collect(),
            hostname: self.options.hostname.clone(),
            ulimit: self.options.ulimits.clone(),
            cgroup_parent: self.options.cgroup_parent.clone(),
            remove_mount_stubs_recursive: true,
            valid_exit_codes: Vec::new(),
        }
    }

    fn devices(&self, run: &Run) -> Vec<pb::CdiDevice> {
        let own = run.devices.iter().map(|d| pb::CdiDevice {
            name: d.name.clone(),
            optional: !d.required,
        });
        self.options.devices.iter().cloned().chain(own).collect()
    }

    /// The step in the image's history: its build arguments, then its words.
    fn history_line(&self, scope: &Scope<'_>, words: &[String], env: &EnvList) -> String {
        let mut args: Vec<(&str, String)> = Vec::new();
        let mut index: std::collections::HashMap<&str, usize> = std::collections::HashMap::new();
        for argument in &self.stages.list[scope.at].args {
            let default = || argument.value.clone().unwrap_or_default();
            let value = env.get(&argument.key).map_or_else(default, str::to_owned);
            match index.get(argument.key.as_str()) {
                Some(at) => args[*at].1 = value,
                None => {
                    index.insert(&argument.key, args.len());
                    args.push((&argument.key, value));
                }
            }
        }
        let mut line = Vec::with_capacity(args.len() + words.len() + 1);
        if !args.is_empty() {
            line.push(format!("|{}", args.len()));
        }
        line.extend(
            args.into_iter()
                .map(|(key, value)| format!("{key}={value}")),
        );
        line.extend(words.iter().cloned());
        line.join(" ")
    }
}

fn tmpfs(target: &str, size: i64) -> Files {
    Files {
        target: target.to_owned(),
        root: None,
        message: pb::Mount {
            mount_type: pb::MountType::Tmpfs.into(),
            tmpfs_opt: Some(pb::TmpfsOpt { size }),
            ..pb::Mount::default()
        },
        output: false,
    }
}

/// The features that a step asks the solver for.
fn features(op: &pb::ExecOp, parts: &Parts, caps: &mut Vec<&'static str>) {
    let mut ask = |wanted: bool, cap| {
        if wanted && !caps.contains(&cap) {
            caps.push(cap);
        }
    };
    ask(true, caps::EXEC_BASE);
    ask(true, caps::EXEC_DEFAULT_PATH);
    ask(
        op.network != i32::from(pb::NetMode::Unset),
        caps::EXEC_NETWORK,
    );
    ask(
        op.security != i32::from(pb::SecurityMode::Sandbox),
        caps::EXEC_SECURITY,
    );
    ask(!op.cdi_devices.is_empty(), caps::EXEC_CDI);
    if let Some(meta) = &op.meta {
        ask(meta.proxy_env.is_some(), caps::EXEC_PROXY);
        ask(!meta.ulimit.is_empty(), caps::EXEC_ULIMIT);
        ask(!meta.cgroup_parent.is_empty(), caps::EXEC_CGROUP_PARENT);
    }
    for files in &parts.files {
        let message = &files.message;
        let is_tmpfs = message.tmpfs_opt.is_some();
        let is_cache = message.cache_opt.is_some();
        ask(!message.selector.is_empty(), caps::EXEC_SELECTOR);
        ask(is_cache, caps::EXEC_CACHE);
        ask(is_cache, caps::EXEC_CACHE_SHARING);
        ask(is_tmpfs, caps::EXEC_TMPFS);
        ask(
            message.tmpfs_opt.is_some_and(|t| t.size > 0),
            caps::EXEC_TMPFS_SIZE,
        );
        ask(
            !is_tmpfs && !is_cache && files.root.is_some(),
            caps::EXEC_BIND,
        );
    }
    ask(
        !parts.secrets.is_empty() || !parts.secret_env.is_empty(),
        caps::EXEC_SECRET,
    );
    ask(!parts.secret_env.is_empty(), caps::EXEC_SECRET_ENV);
    ask(!parts.agents.is_empty(), caps::EXEC_SSH);
}

/// Proxies that are given as build arguments hold for every step, and are no part of what it is.
fn proxies(args: &BTreeMap<String, String>) -> Option<pb::ProxyEnv> {
    let mut proxies = pb::ProxyEnv::default();
    let mut any = false;
    for (key, value) in args {
        let field = match key.to_ascii_lowercase().as_str() {
            "http_proxy" => &mut proxies.http_proxy,
            "https_proxy" => &mut proxies.https_proxy,
            "ftp_proxy" => &mut proxies.ftp_proxy,
            "no_proxy" => &mut proxies.no_proxy,
            "all_proxy" => &mut proxies.all_proxy,
            _ => continue,
        };
        value.clone_into(field);
        any = true;
    }
    any.then_some(proxies)
}

/// A here-document's first line, with dots where there are more.
fn summary(document: &str) -> String {
    let document = document.trim();
    let first = document.lines().next().unwrap_or_default();
    let more = if document.contains('\n') { "..." } else { "" };
    format!("{first}{more}")
}

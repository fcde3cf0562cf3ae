//! The tree of verbs: which words lead where.

use crate::args::{Call, Verb};
use crate::commands::{self as c};

/// A verb under one of its names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    pub(crate) aliases: &'static [&'static str],
    pub(crate) verb: &'static Verb,
    /// What runs in place of the verb's future, for what brings a runtime of its own.
    pub(crate) blocking: Option<fn(&Call) -> anyhow::Result<u8>>,
}

const fn entry(name: &'static str, verb: &'static Verb) -> Entry {
    Entry {
        name,
        aliases: &[],
        verb,
        blocking: None,
    }
}

const fn aliased(
    name: &'static str,
    aliases: &'static [&'static str],
    verb: &'static Verb,
) -> Entry {
    Entry {
        aliases,
        ..entry(name, verb)
    }
}

/// A word with verbs below it.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) entries: &'static [Entry],
}

/// What comes first in the help.
pub(crate) static COMMON: &[Entry] = &[
    entry("run", &c::run::VERB),
    entry("exec", &c::exec::VERB),
    entry("ps", &c::ps::VERB),
    entry("build", &c::build::VERB),
    entry("pull", &c::pull::VERB),
    entry("push", &c::push::VERB),
    entry("images", &c::images::VERB),
    entry("login", &c::login::VERB),
    entry("logout", &c::logout::VERB),
    entry("search", &c::search::VERB),
    entry("version", &c::version::VERB),
    entry("info", &c::info::VERB),
];

pub(crate) static COMMANDS: &[Entry] = &[
    entry("attach", &c::attach::VERB),
    entry("commit", &c::commit::VERB),
    entry("completion", &c::completion::VERB),
    entry("cp", &c::cp::VERB),
    entry("create", &c::create::VERB),
    Entry {
        blocking: Some(c::daemon::run),
        ..entry("daemon", &c::daemon::VERB)
    },
    entry("diff", &c::diff::VERB),
    entry("events", &c::events::VERB),
    entry("export", &c::export::VERB),
    entry("history", &c::history::VERB),
    entry("import", &c::import::VERB),
    entry("inspect", &c::inspect::VERB),
    entry("kill", &c::kill::VERB),
    entry("load", &c::load::VERB),
    entry("logs", &c::logs::VERB),
    entry("pause", &c::pause::VERB),
    entry("port", &c::port::VERB),
    entry("rename", &c::rename::VERB),
    entry("restart", &c::restart::VERB),
    entry("rm", &c::rm::VERB),
    entry("rmi", &c::rmi::VERB),
    entry("save", &c::save::VERB),
    entry("start", &c::start::VERB),
    entry("stats", &c::stats::VERB),
    entry("stop", &c::stop::VERB),
    entry("tag", &c::tag::VERB),
    entry("top", &c::top::VERB),
    entry("unpause", &c::unpause::VERB),
    entry("update", &c::update::VERB),
    entry("wait", &c::wait::VERB),
];

pub(crate) static GROUPS: &[Group] = &[
    Group {
        name: "builder",
        about: "Manage builds",
        entries: &[
            entry("build", &c::build::VERB),
            entry("du", &c::build_cache::VERB),
            entry("prune", &c::prune::BUILD_CACHE),
        ],
    },
    Group {
        name: "buildx",
        about: "The same by the names of Docker's plugin",
        entries: &[
            entry("build", &c::build::VERB),
            entry("du", &c::build_cache::VERB),
            entry("prune", &c::prune::BUILD_CACHE),
        ],
    },
    Group {
        name: "container",
        about: "Manage containers",
        entries: &[
            entry("attach", &c::attach::VERB),
            entry("commit", &c::commit::VERB),
            entry("cp", &c::cp::VERB),
            entry("create", &c::create::VERB),
            entry("diff", &c::diff::VERB),
            entry("exec", &c::exec::VERB),
            entry("export", &c::export::VERB),
            entry("inspect", &c::inspect::CONTAINER),
            entry("kill", &c::kill::VERB),
            entry("logs", &c::logs::VERB),
            aliased("ls", &["list", "ps"], &c::ps::VERB),
            entry("pause", &c::pause::VERB),
            entry("port", &c::port::VERB),
            entry("prune", &c::prune::CONTAINERS),
            entry("rename", &c::rename::VERB),
            entry("restart", &c::restart::VERB),
            aliased("rm", &["remove"], &c::rm::VERB),
            entry("run", &c::run::VERB),
            entry("start", &c::start::VERB),
            entry("stats", &c::stats::VERB),
            entry("stop", &c::stop::VERB),
            entry("top", &c::top::VERB),
            entry("unpause", &c::unpause::VERB),
            entry("update", &c::update::VERB),
            entry("wait", &c::wait::VERB),
        ],
    },
    Group {
        name: "image",
        about: "Manage images",
        entries: &[
            entry("attach", &c::image_referrers::ATTACH),
            entry("attestations", &c::attestations::VERB),
            entry("build", &c::build::VERB),
            entry("history", &c::history::VERB),
            entry("import", &c::import::VERB),
            entry("inspect", &c::inspect::IMAGE),
            entry("keygen", &c::image_sign::KEYGEN),
            entry("load", &c::load::VERB),
            aliased("ls", &["list"], &c::images::VERB),
            entry("prune", &c::prune::IMAGES),
            entry("pull", &c::pull::VERB),
            entry("push", &c::push::VERB),
            entry("referrers", &c::image_referrers::REFERRERS),
            aliased("rm", &["remove"], &c::rmi::VERB),
            entry("save", &c::save::VERB),
            entry("sign", &c::image_sign::SIGN),
            entry("tag", &c::tag::VERB),
            entry("verify", &c::image_sign::VERIFY),
        ],
    },
    Group {
        name: "manifest",
        about: "Manage image manifests and manifest lists",
        entries: &[
            entry("annotate", &c::manifest::annotate::VERB),
            entry("create", &c::manifest::create::VERB),
            entry("inspect", &c::manifest::inspect::VERB),
            entry("push", &c::manifest::push::VERB),
            entry("rm", &c::manifest::rm::VERB),
        ],
    },
    Group {
        name: "network",
        about: "Manage networks",
        entries: &[
            entry("audit", &c::network_audit::VERB),
            entry("connect", &c::network_connect::CONNECT),
            entry("create", &c::network_create::VERB),
            entry("disconnect", &c::network_connect::DISCONNECT),
            entry("inspect", &c::inspect::NETWORK),
            aliased("ls", &["list"], &c::networks::VERB),
            entry("prune", &c::prune::NETWORKS),
            aliased("rm", &["remove"], &c::network_rm::VERB),
        ],
    },
    Group {
        name: "registry",
        about: "Serve images to others",
        entries: &[
            entry("gc", &c::registry::GC),
            Entry {
                blocking: Some(c::registry::serve),
                ..entry("serve", &c::registry::SERVE)
            },
        ],
    },
    Group {
        name: "system",
        about: "Manage Gorae",
        entries: &[
            entry("check", &c::check::VERB),
            entry("df", &c::df::VERB),
            entry("dial-stdio", &c::dial_stdio::VERB),
            entry("events", &c::events::VERB),
            entry("info", &c::info::VERB),
            entry("prune", &c::prune::SYSTEM),
        ],
    },
    Group {
        name: "volume",
        about: "Manage volumes",
        entries: &[
            entry("create", &c::volume_create::VERB),
            entry("inspect", &c::inspect::VOLUME),
            aliased("ls", &["list"], &c::volumes::VERB),
            entry("prune", &c::prune::VOLUMES),
            aliased("rm", &["remove"], &c::volume_rm::VERB),
        ],
    },
];

/// Where words lead.
#[derive(Debug)]
pub(crate) enum Found {
    /// A verb, the words that name it, and how many they are.
    Verb {
        path: String,
        entry: Entry,
        used: usize,
    },
    Group(&'static Group),
    Nothing,
    Unknown {
        path: String,
        group: Option<&'static Group>,
    },
}

fn by_name(entries: &[Entry], name: &str) -> Option<Entry> {
    entries
        .iter()
        .find(|entry| entry.name == name || entry.aliases.contains(&name))
        .copied()
}

/// Follows the words as far as they name something.
pub(crate) fn find(words: &[String]) -> Found {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] => Found::Nothing,
        [first, rest @ ..] => {
            if let Some(entry) = by_name(COMMON, first).or_else(|| by_name(COMMANDS, first)) {
                return Found::Verb {
                    path: (*first).to_owned(),
                    entry,
                    used: 1,
                };
            }
            let Some(group) = GROUPS.iter().find(|group| group.name == *first) else {
                return Found::Unknown {
                    path: (*first).to_owned(),
                    group: None,
                };
            };
            match rest.first() {
                None | Some(&("--help" | "-h" | "help")) => Found::Group(group),
                Some(second) => match by_name(group.entries, second) {
                    Some(entry) => Found::Verb {
                        path: format!("{first} {second}"),
                        entry,
                        used: 2,
                    },
                    None => Found::Unknown {
                        path: format!("{first} {second}"),
                        group: Some(group),
                    },
                },
            }
        }
    }
}

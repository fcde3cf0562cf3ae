//! The table of all settings: names, kinds, defaults, and whether they change without a restart.
//!
//! It is what the configuration file may say and what `gorae daemon` has flags for, in one place;
//! `docs/configuration.md` is held to it by a test.

/// What a setting's value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Switch,
    /// A whole number.
    Number,
    /// A text.
    Text,
    /// A size: a number of bytes, or a text such as `64m`.
    Size,
    /// Several texts; the flag is given once for each.
    List,
    /// Names with values: a table in the file, `name=value` as a flag.
    Map,
}

/// A setting.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its name, in the file and as a flag.
    pub name: &'static str,
    /// The flag's short name.
    pub short: Option<char>,
    /// What its value is.
    pub kind: Kind,
    /// What help calls the value.
    pub value: &'static str,
    /// What it is for, in one line.
    pub about: &'static str,
    /// What holds where nothing is said.
    pub default: &'static str,
    /// Whether SIGHUP lets it take effect.
    pub reload: bool,
}

const fn key(
    name: &'static str,
    kind: Kind,
    value: &'static str,
    default: &'static str,
    about: &'static str,
) -> Key {
    Key {
        name,
        short: None,
        kind,
        value,
        about,
        default,
        reload: false,
    }
}

impl Key {
    const fn short(self, short: char) -> Self {
        Self {
            short: Some(short),
            ..self
        }
    }

    const fn live(self) -> Self {
        Self {
            reload: true,
            ..self
        }
    }
}

use Kind::{List, Map, Number, Size, Switch, Text};

/// All settings, by name.
#[rustfmt::skip]
pub const KEYS: &[Key] = &[
    key("bip", Text, "cidr", "a free subnet", "Address and prefix length of the default bridge"),
    key("bridge", Text, "string", "gorae0", "Name of the default bridge").short('b'),
    key("build-cache-max-size", Size, "bytes", "a tenth of the disk", "What the build cache may take; beyond it, what was not used for longest goes (0: no limit)").live(),
    key("build-cache-min-free", Size, "bytes", "none", "What is to be free on the file system; with less, the build cache gives up what was not used for longest").live(),
    key("build-max-parallelism", Number, "int", "twice the processors", "How many steps of builds run at the same time"),
    key("cgroup-parent", Text, "string", "/gorae", "Cgroup below which containers get theirs"),
    key("debug", Switch, "", "false", "Log as with log-level debug").short('D').live(),
    key("default-address", Text, "ip", "0.0.0.0", "Host address of published ports that name none"),
    key("default-address-pool", List, "pool-options", "built-in pools", "Where subnets of new networks come from, such as base=10.64.0.0/12,size=24").live(),
    key("default-cgroupns-mode", Text, "string", "private", "Cgroup namespace of containers that name none: \"private\" or \"host\"").live(),
    key("default-ipc-mode", Text, "string", "private", "IPC namespace of containers that name none: \"private\" or \"shareable\"").live(),
    key("default-shm-size", Size, "bytes", "64m", "Size of /dev/shm of containers that name none").live(),
    key("default-ulimit", List, "ulimit", "none", "Limit of containers that name none, such as nofile=1024:4096").live(),
    key("dns", List, "ip", "the host's", "Name server of containers that name none").live(),
    key("dns-opt", List, "list", "the host's", "Resolver option of containers that name none").live(),
    key("dns-search", List, "list", "the host's", "Search domain of containers that name none").live(),
    key("docker-socket", Text, "path", "none", "Listen here too, where Docker's clients look (/var/run/docker.sock)"),
    key("fixed-cidr-v6", Text, "cidr", "a unique local one", "IPv6 subnet of the default bridge"),
    key("group", Text, "string", "\"gorae\", else \"docker\"", "Group that may use the unix sockets").short('G'),
    key("host", List, "list", "unix:///run/gorae/gorae.sock", "Where to listen: unix:///path, tcp://ip:port (with TLS, or on loopback) or fd://").short('H'),
    key("http-proxy", Text, "url", "HTTP_PROXY", "Proxy to registries over http").live(),
    key("https-proxy", Text, "url", "HTTPS_PROXY", "Proxy to registries over https").live(),
    key("icc", Switch, "", "true", "Let the containers of the default bridge reach each other"),
    key("init", Switch, "", "false", "Run an init in containers that do not say").live(),
    key("insecure-registry", List, "list", "loopback", "Registry that may be reached without TLS: host, host:port or a subnet").live(),
    key("ipv6", Switch, "", "false", "Give the default bridge IPv6"),
    key("label", List, "list", "none", "Label of the engine, key=value, shown by info").live(),
    key("layer-max-entries", Number, "int", "4194304", "Most files of a layer of an image"),
    key("layer-max-ratio", Number, "int", "2048", "How many times as long as it is packed a layer may be"),
    key("layer-max-size", Size, "bytes", "256g", "Longest layer, unpacked"),
    key("log-driver", Text, "string", "json-file", "Log driver of containers that name none").live(),
    key("log-format", Text, "string", "text", "Form of the engine's own log: \"text\" or \"json\""),
    key("log-level", Text, "string", "info", "What the engine logs: debug, info, warn, error, or a filter such as info,engine=debug").short('l').live(),
    key("log-opt", Map, "map", "the driver's", "Option of the log driver for containers that name none").live(),
    key("max-concurrent-downloads", Number, "int", "8", "Layers that are downloaded from one registry at the same time").live(),
    key("max-download-attempts", Number, "int", "5", "How often a request to a registry is sent without progress").live(),
    key("metrics-addr", Text, "ip:port", "none", "Serve /metrics there too, without TLS"),
    key("mtu", Number, "int", "1500", "Largest packet on the default bridge and on networks that name none, in bytes"),
    key("no-new-privileges", Switch, "", "false", "Keep containers that do not say from gaining privileges by set-user-id programs").live(),
    key("no-proxy", Text, "list", "NO_PROXY", "Hosts, domains and subnets that are reached without a proxy, separated by commas").live(),
    key("pidfile", Text, "path", "none", "File that holds the engine's process id"),
    key("publish-policy", Text, "string", "docker", "Who has the last word on connections to published ports: \"docker\", or the input rules of the \"host-firewall\""),
    key("push-compression", Text, "string", "gzip", "How layers that were made here are packed for registries: \"gzip\" or \"zstd\", also with a level, \"zstd:9\"").live(),
    key("registry-mirror", List, "url", "none", "Mirror of Docker Hub that is asked first").live(),
    key("root", Text, "path", "/var/lib/gorae", "Folder of everything that lasts"),
    key("run", Text, "path", "/run/gorae", "Folder of everything that ends with the boot"),
    key("seccomp-profile", Text, "path", "builtin", "Seccomp profile of containers that name none: a file, \"builtin\" or \"unconfined\"").live(),
    key("shim", Text, "path", "beside gorae", "The gorae-shim program"),
    key("shutdown-timeout", Number, "seconds", "5", "How long requests may go on when the engine ends; containers run on"),
    key("signature-policy", Text, "path", "/etc/gorae/policy.toml", "File that says which images must be signed").live(),
    key("snapshotter", Text, "string", "auto", "What layers are unpacked into: EROFS images (\"erofs\"), folders (\"overlayfs\"), or images where the kernel takes them (\"auto\")"),
    key("store-collect-tagged", Switch, "", "false", "Let the collector remove unused images that have tags, too").live(),
    key("store-interval", Number, "seconds", "60", "How often the collector looks").live(),
    key("store-max-partial", Size, "bytes", "4g", "What the parts of interrupted downloads may take").live(),
    key("store-max-size", Size, "bytes", "none", "What images may take; near it unused images go, and nothing is written beyond it").live(),
    key("store-min-free", Size, "bytes", "none", "What is to be free on the file system; with less, unused images go").live(),
    key("store-partial-hours", Number, "hours", "24", "How long the parts of interrupted downloads are kept").live(),
    key("store-unused-hours", Number, "hours", "none", "Unused images go that were not used for so long").live(),
    key("tls", Switch, "", "false", "Speak TLS on TCP; implied by tlsverify"),
    key("tlscacert", Text, "path", "~/.docker/ca.pem", "Authorities whose certificates clients must show"),
    key("tlscert", Text, "path", "~/.docker/cert.pem", "The engine's certificate"),
    key("tlskey", Text, "path", "~/.docker/key.pem", "The certificate's private key"),
    key("tlsverify", Switch, "", "false", "Speak TLS on TCP, and let in clients with a certificate only"),
    key("userns-remap", Text, "user", "none", "Whose ids of /etc/subuid and /etc/subgid the users of containers are: \"default\", user[:group] or uid[:gid]"),
    key("warm", Number, "int", "6", "Network namespaces and shims that are kept ready"),
];

/// Finds a setting.
#[must_use]
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// The setting whose name somebody may have meant: by Docker's plural names, or by a letter.
pub(super) fn resembling(name: &str) -> Option<&'static str> {
    let plain = name.replace('_', "-").to_ascii_lowercase();
    if let Some(meant) = super::docker_json::meaning(&plain) {
        return Some(meant);
    }
    KEYS.iter()
        .map(|key| (distance(key.name, &plain), key.name))
        .min()
        .filter(|(distance, _)| *distance <= 2)
        .map(|(_, name)| name)
}

/// How many letters are to be added, removed or changed (Levenshtein's distance).
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let changed = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_whole() {
        assert!(KEYS.is_sorted_by_key(|key| key.name));
        for key in KEYS {
            assert!(!key.about.is_empty() && !key.default.is_empty());
            assert_eq!(key.value.is_empty(), key.kind == Switch, "{}", key.name);
            assert!(find(key.name).is_some());
        }
    }

    #[test]
    fn what_was_meant() {
        for (written, meant) in [
            ("insecure-registries", Some("insecure-registry")),
            ("hosts", Some("host")),
            ("data-root", Some("root")),
            ("log_level", Some("log-level")),
            ("ipv", Some("ipv6")),
            ("colour", None),
        ] {
            assert_eq!(resembling(written), meant, "{written}");
        }
    }
}

//! The flags of dockerd, and what becomes of each here.

use super::error::SettingsError;
use super::keys::Kind;
use super::layer::{Layer, Origin};

/// What becomes of a directive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is this setting.
    Key(&'static str),
    /// These values ask for what is so anyway; of another it is said why it has no effect.
    Only(&'static [&'static str], &'static str),
    /// It asks for nothing that there is here, whatever its value.
    Moot,
    /// It has no effect, which is said with this reason.
    Unmet(&'static str),
    /// To leave it out would be less safe than was asked for: the start is refused.
    Refused(&'static str),
    /// The command line itself.
    Own,
}

/// A flag of dockerd, or a key of its configuration file.
#[derive(Clone, Copy, Debug)]
pub struct Directive {
    /// The flag; empty where there is none.
    pub flag: &'static str,
    /// Its short name.
    pub short: Option<char>,
    /// The key in `daemon.json`; empty where there is none.
    pub key: &'static str,
    /// What the value is.
    pub kind: Kind,
    /// What becomes of it.
    pub fate: Fate,
}

/// Something that was asked for and has no effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmet {
    /// Flag or key, as it was written.
    pub name: String,
    /// Why it has no effect.
    pub why: &'static str,
}

use Fate::{Key, Moot, Only, Own, Refused, Unmet as No};
use Kind::{List, Map, Number, Size, Switch, Text};

const fn both(flag: &'static str, key: &'static str, kind: Kind, fate: Fate) -> Directive {
    Directive {
        flag,
        short: None,
        key,
        kind,
        fate,
    }
}

const fn same(name: &'static str, kind: Kind, fate: Fate) -> Directive {
    both(name, name, kind, fate)
}

const fn key(name: &'static str, kind: Kind, fate: Fate) -> Directive {
    both("", name, kind, fate)
}

const fn flag(name: &'static str, kind: Kind, fate: Fate) -> Directive {
    both(name, "", kind, fate)
}

impl Directive {
    const fn short(self, short: char) -> Self {
        Self {
            short: Some(short),
            ..self
        }
    }

    /// Its name in a source of either kind.
    #[must_use]
    pub fn name(&self) -> &'static str {
        if self.flag.is_empty() {
            self.key
        } else {
            self.flag
        }
    }
}

const CONTAINERD: &str = "there is no containerd";
const SWARM: &str = "there is no swarm";
const REALTIME: &str = "real-time scheduling is not shared out";
const RUNTIMES: &str = "containers are run by gorae-shim";
const RULES: &str = "the firewall's rules are Gorae's own, by nftables";
const STORAGE: &str = "layers are kept as overlayfs";

/// All directives of dockerd 28.
#[rustfmt::skip]
pub const DIRECTIVES: &[Directive] = &[
    both("add-runtime", "runtimes", List, No(RUNTIMES)),
    same("allow-direct-routing", Switch, Only(&["false"], "networks route by their gateway mode")),
    both("authorization-plugin", "authorization-plugins", List, Refused("plugins that decide about requests are not asked here")),
    same("bip", Text, Key("bip")),
    same("bip6", Text, No("set fixed-cidr-v6: its first address is the bridge's")),
    same("bridge", Text, Key("bridge")).short('b'),
    both("cdi-spec-dir", "cdi-spec-dirs", List, No("devices are not found by CDI")),
    same("cgroup-parent", Text, Key("cgroup-parent")),
    flag("config-file", Text, Own),
    same("containerd", Text, No(CONTAINERD)),
    same("containerd-namespace", Text, No(CONTAINERD)),
    both("containerd-plugins-namespace", "containerd-plugin-namespace", Text, No(CONTAINERD)),
    same("cpu-rt-period", Number, No(REALTIME)),
    same("cpu-rt-runtime", Number, No(REALTIME)),
    flag("cri-containerd", Switch, No(CONTAINERD)),
    same("data-root", Text, Key("root")),
    same("debug", Switch, Key("debug")).short('D'),
    both("default-address-pool", "default-address-pools", List, Key("default-address-pool")),
    same("default-cgroupns-mode", Text, Key("default-cgroupns-mode")),
    same("default-gateway", Text, No("the default bridge is its containers' gateway: set bip")),
    same("default-gateway-v6", Text, No("the default bridge is its containers' gateway: set fixed-cidr-v6")),
    same("default-ipc-mode", Text, Key("default-ipc-mode")),
    both("default-network-opt", "default-network-opts", Map, No("networks get their options when they are made")),
    same("default-runtime", Text, Only(&["runc", "io.containerd.runc.v2", "gorae"], RUNTIMES)),
    same("default-shm-size", Size, Key("default-shm-size")),
    both("default-ulimit", "default-ulimits", List, Key("default-ulimit")),
    same("dns", List, Key("dns")),
    both("dns-opt", "dns-opts", List, Key("dns-opt")),
    same("dns-search", List, Key("dns-search")),
    both("exec-opt", "exec-opts", List, Only(&["native.cgroupdriver=cgroupfs"], "cgroups are made in the cgroup file system, not by systemd")),
    same("exec-root", Text, Key("run")),
    same("experimental", Switch, Only(&["false"], "there are no experimental features to turn on")),
    both("feature", "features", Map, No("there are no features to turn on")),
    same("fixed-cidr", Text, No("the default bridge's addresses are from all of its network: set bip")),
    same("fixed-cidr-v6", Text, Key("fixed-cidr-v6")),
    same("group", Text, Key("group")).short('G'),
    flag("help", Switch, Own),
    both("host", "hosts", List, Key("host")).short('H'),
    both("host-gateway-ip", "host-gateway-ips", List, No("host-gateway is the default bridge's address")),
    flag("http-proxy", Text, Key("http-proxy")),
    flag("https-proxy", Text, Key("https-proxy")),
    same("icc", Switch, Key("icc")),
    same("init", Switch, Key("init")),
    same("init-path", Text, No("the init is a part of gorae-shim")),
    both("insecure-registry", "insecure-registries", List, Key("insecure-registry")),
    same("ip", Text, Key("default-address")),
    same("ip-forward", Switch, Only(&["true"], "published ports need forwarding")),
    same("ip-forward-no-drop", Switch, Moot),
    same("ip-masq", Switch, Only(&["true"], "networks choose by their gateway mode")),
    same("ip6tables", Switch, Only(&["true"], RULES)),
    same("iptables", Switch, Only(&["true"], RULES)),
    same("ipv6", Switch, Key("ipv6")),
    both("label", "labels", List, Key("label")),
    same("live-restore", Switch, Only(&["true"], "containers always outlive the engine")),
    same("log-driver", Text, Key("log-driver")),
    same("log-format", Text, Key("log-format")),
    same("log-level", Text, Key("log-level")).short('l'),
    both("log-opt", "log-opts", Map, Key("log-opt")),
    same("max-concurrent-downloads", Number, Key("max-concurrent-downloads")),
    same("max-concurrent-uploads", Number, No("uploads are bounded for each registry")),
    same("max-download-attempts", Number, Key("max-download-attempts")),
    same("metrics-addr", Text, Key("metrics-addr")),
    same("mtu", Number, Key("mtu")),
    same("network-control-plane-mtu", Number, No(SWARM)),
    same("no-new-privileges", Switch, Key("no-new-privileges")),
    flag("no-proxy", Text, Key("no-proxy")),
    both("node-generic-resource", "node-generic-resources", List, No(SWARM)),
    same("pidfile", Text, Key("pidfile")).short('p'),
    same("raw-logs", Switch, Moot),
    both("registry-mirror", "registry-mirrors", List, Key("registry-mirror")),
    same("rootless", Switch, Only(&["false"], "the engine runs as root")),
    same("seccomp-profile", Text, Key("seccomp-profile")),
    same("selinux-enabled", Switch, Only(&["false"], "containers get no SELinux labels")),
    same("shutdown-timeout", Number, Moot),
    same("storage-driver", Text, Only(&["overlay2", "overlay", "overlayfs"], STORAGE)).short('s'),
    both("storage-opt", "storage-opts", List, No(STORAGE)),
    same("swarm-default-advertise-addr", Text, No(SWARM)),
    same("tls", Switch, Key("tls")),
    same("tlscacert", Text, Key("tlscacert")),
    same("tlscert", Text, Key("tlscert")),
    same("tlskey", Text, Key("tlskey")),
    same("tlsverify", Switch, Key("tlsverify")),
    same("userland-proxy", Switch, Moot),
    same("userland-proxy-path", Text, Moot),
    same("userns-remap", Text, Key("userns-remap")),
    flag("validate", Switch, Own),
    flag("version", Switch, Own).short('v'),
    // keys without a flag, and those of other versions
    key("allow-nondistributable-artifacts", List, Moot),
    key("builder", Map, No("the build cache has build-cache-max-size and build-cache-min-free")),
    key("firewall-backend", Text, Only(&["nftables"], RULES)),
    key("min-api-version", Text, Moot),
    key("network-diagnostic-port", Number, No(SWARM)),
    key("proxies", Map, Own),
];

/// Finds a directive by its flag.
#[must_use]
pub fn by_flag(name: &str) -> Option<&'static Directive> {
    let mut all = DIRECTIVES.iter();
    all.find(|directive| directive.flag == name && !name.is_empty())
}

/// Puts a directive's value where it belongs.
///
/// # Errors
/// When leaving it out would be less safe than what was asked for.
pub(super) fn take(
    directive: &Directive,
    texts: Vec<String>,
    origin: Origin,
    layer: &mut Layer,
) -> Result<Option<Unmet>, SettingsError> {
    let shown = match &origin {
        Origin::Flag(name) => format!("--{name}"),
        Origin::File { .. } => directive.key.to_owned(),
    };
    let unmet = |why| {
        Some(Unmet {
            name: shown.clone(),
            why,
        })
    };
    Ok(match directive.fate {
        Key(name) => {
            layer.set(name, texts, origin);
            None
        }
        Only(values, why) => {
            let usual = texts.iter().all(|text| values.contains(&text.as_str()));
            if usual { None } else { unmet(why) }
        }
        No(why) => unmet(why),
        Moot | Own => None,
        // an empty value asks for nothing
        Refused(_) if texts.iter().all(String::is_empty) => None,
        Refused(why) => {
            return Err(SettingsError::Refused { origin: shown, why });
        }
    })
}

/// One sentence on all that has no effect.
pub(super) fn warning(unmet: &[Unmet]) -> Option<String> {
    let all: Vec<String> = unmet
        .iter()
        .map(|unmet| format!("{} ({})", unmet.name, unmet.why))
        .collect();
    (!all.is_empty()).then(|| format!("without effect here: {}", all.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::super::keys;
    use super::*;

    #[test]
    fn directives_lead_to_settings() {
        for directive in DIRECTIVES {
            assert!(!directive.name().is_empty());
            let Key(name) = directive.fate else { continue };
            let key = keys::find(name).unwrap_or_else(|| panic!("{name} is no setting"));
            assert_eq!(key.kind, directive.kind, "{}", directive.name());
        }
    }

    #[test]
    fn fates() {
        let check = |name: &str, texts: &[&str], expect: Result<Option<&str>, &str>| {
            let mut layer = Layer::default();
            let texts = texts.iter().map(|&text| text.to_owned()).collect();
            let origin = Origin::Flag(name.to_owned());
            let found = take(by_flag(name).unwrap(), texts, origin, &mut layer);
            match (found, expect) {
                (Ok(found), Ok(expect)) => {
                    assert_eq!(found.map(|unmet| unmet.why), expect, "{name}");
                }
                (Err(found), Err(expect)) => {
                    assert!(found.to_string().contains(expect), "{found}");
                }
                (found, expect) => panic!("{name}: {found:?}, not {expect:?}"),
            }
            layer
        };
        assert_eq!(
            check("ip", &["::"], Ok(None)).0["default-address"].texts,
            ["::"]
        );
        check("storage-driver", &["overlay2"], Ok(None));
        check("storage-driver", &["zfs"], Ok(Some(STORAGE)));
        check("userland-proxy", &["false"], Ok(None));
        check("containerd", &["/x"], Ok(Some(CONTAINERD)));
        check("authorization-plugin", &[""], Ok(None));
        check(
            "authorization-plugin",
            &["x"],
            Err("--authorization-plugin is not supported: plugins that"),
        );
        assert_eq!(
            check("userns-remap", &["default"], Ok(None)).0["userns-remap"].texts,
            ["default"]
        );
        let unmet = [("--a", "b"), ("c", "d")].map(|(name, why)| Unmet {
            name: name.to_owned(),
            why,
        });
        assert_eq!(
            warning(&unmet).unwrap(),
            "without effect here: --a (b); c (d)"
        );
        assert_eq!(warning(&[]), None);
    }
}

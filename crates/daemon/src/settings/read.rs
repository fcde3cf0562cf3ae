//! From settings as they were written to what they mean.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::error::SettingsError;
use super::layer::{Given, Layer};
use super::policy;
use super::values;
use crate::config::Config;
use crate::tls::TlsFiles;

/// The settings of a layer over the defaults of `base`.
pub(super) fn config(layer: &Layer, base: &Config) -> Result<Config, SettingsError> {
    let reader = Reader(layer);
    let mut config = base.clone();
    own(&reader, &mut config)?;
    places(&reader, &mut config)?;
    network(&reader, &mut config.engine)?;
    containers(&reader, &mut config.engine)?;
    registries(&reader, &mut config.engine)?;
    store(&reader, &mut config.engine.store)?;
    builds(&reader, &mut config.builder)?;
    config.tls = tls(&reader)?;
    Ok(config)
}

/// A layer with the ways to take typed values out of it.
struct Reader<'a>(&'a Layer);

impl<'a> Reader<'a> {
    fn given(&self, key: &'static str) -> Option<&'a Given> {
        debug_assert!(super::keys::find(key).is_some(), "{key} is no setting");
        self.0.0.get(key)
    }

    fn text(&self, key: &'static str) -> Option<&'a str> {
        let given = self.given(key)?;
        given.texts.last().map(String::as_str)
    }

    /// A text, where an empty one says as much as none.
    fn word(&self, key: &'static str) -> Option<&'a str> {
        self.text(key).filter(|text| !text.is_empty())
    }

    fn path(&self, key: &'static str) -> Option<PathBuf> {
        self.word(key).map(PathBuf::from)
    }

    fn one<T>(
        &self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, SettingsError> {
        let (Some(given), Some(text)) = (self.given(key), self.text(key)) else {
            return Ok(None);
        };
        parse(text)
            .map(Some)
            .map_err(|why| wrong(key, given, text, why))
    }

    fn each<T>(
        &self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Vec<T>, SettingsError> {
        let Some(given) = self.given(key) else {
            return Ok(Vec::new());
        };
        let parsed = given
            .texts
            .iter()
            .map(|text| parse(text).map_err(|why| wrong(key, given, text, why)));
        parsed.collect()
    }

    fn switch(&self, key: &'static str) -> Result<Option<bool>, SettingsError> {
        self.one(key, values::switch)
    }

    fn number<T: TryFrom<i64>>(
        &self,
        key: &'static str,
        least: i64,
        most: i64,
    ) -> Result<Option<T>, SettingsError> {
        self.one(key, |text| {
            let number = values::number(text, least, most)?;
            T::try_from(number).map_err(|_| format!("{number} is out of range"))
        })
    }
}

fn wrong(key: &'static str, given: &Given, text: &str, why: String) -> SettingsError {
    SettingsError::Value {
        origin: given.origin.clone(),
        key,
        text: text.to_owned(),
        why,
    }
}

/// Puts a value in its place, if there is one.
fn put<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

/// The daemon's own.
fn own(reader: &Reader<'_>, config: &mut Config) -> Result<(), SettingsError> {
    put(
        &mut config.log_level,
        reader.one("log-level", values::level)?,
    );
    if reader.switch("debug")? == Some(true) {
        "debug".clone_into(&mut config.log_level);
    }
    let json = |text: &str| match text {
        "text" => Ok(false),
        "json" => Ok(true),
        _ => Err("must be text or json".to_owned()),
    };
    put(&mut config.log_json, reader.one("log-format", json)?);
    if let Some(seconds) = reader.number::<u64>("shutdown-timeout", 0, 3600)? {
        config.grace = Some(Duration::from_secs(seconds));
    }
    Ok(())
}

/// Where things are, and where the daemon listens.
fn places(reader: &Reader<'_>, config: &mut Config) -> Result<(), SettingsError> {
    put(&mut config.engine.root, reader.path("root"));
    put(&mut config.engine.run, reader.path("run"));
    put(&mut config.engine.shim, reader.path("shim"));
    put(
        &mut config.engine.cgroup_parent,
        reader.path("cgroup-parent"),
    );
    put(
        &mut config.engine.snapshotter,
        reader.one("snapshotter", values::snapshotter)?,
    );
    let limits = &mut config.engine.layer_limits;
    put(
        &mut limits.entries,
        reader.number("layer-max-entries", 1, i64::MAX)?,
    );
    put(
        &mut limits.ratio,
        reader.number("layer-max-ratio", 1, i64::MAX)?,
    );
    put(
        &mut limits.bytes,
        reader.one("layer-max-size", values::bytes)?,
    );
    put(&mut config.engine.warm, reader.number("warm", 0, 1000)?);
    if reader.given("host").is_some() {
        config.hosts = reader.each("host", |text| {
            text.parse()
                .map_err(|error: crate::address::ParseAddressError| error.to_string())
        })?;
    }
    if let Some(path) = reader.path("docker-socket") {
        config.docker_socket = Some(path);
    }
    if let Some(path) = reader.path("pidfile") {
        config.pid_file = Some(path);
    }
    if let Some(group) = reader.text("group") {
        config.group = Some(group.to_owned());
    }
    if reader.word("metrics-addr").is_some() {
        config.metrics_address = reader.one("metrics-addr", |text| {
            text.parse()
                .map_err(|_| "must be an IP address and a port, such as 127.0.0.1:9323".to_owned())
        })?;
    }
    Ok(())
}

fn network(reader: &Reader<'_>, engine: &mut engine::Config) -> Result<(), SettingsError> {
    if let Some(bridge) = reader.word("bridge") {
        bridge.clone_into(&mut engine.bridge);
    }
    if reader.word("bip").is_some() {
        engine.bip = reader.one("bip", values::bridge_address)?;
    }
    let address = |text: &str| values::address(text);
    put(
        &mut engine.publish_address,
        reader.one("default-address", address)?,
    );
    put(
        &mut engine.publish_policy,
        reader.one("publish-policy", values::publish_policy)?,
    );
    let pools = reader.each("default-address-pool", values::pool)?;
    if !pools.is_empty() {
        engine.address_pools = pools;
    }
    if reader.word("fixed-cidr-v6").is_some() {
        engine.fixed_cidr_v6 = reader.one("fixed-cidr-v6", values::v6_subnet)?;
    }
    put(&mut engine.ipv6, reader.switch("ipv6")?);
    if engine.fixed_cidr_v6.is_some() && !engine.ipv6 {
        return Err(SettingsError::Together(
            "--fixed-cidr-v6 has no effect without --ipv6\n\nAdd --ipv6.".to_owned(),
        ));
    }
    let ipv6 = engine.ipv6;
    let mtu = |text: &str| values::mtu(text, ipv6);
    put(&mut engine.mtu, reader.one("mtu", mtu)?);
    put(&mut engine.icc, reader.switch("icc")?);
    Ok(())
}

/// What the collector of images goes by.
fn store(reader: &Reader<'_>, store: &mut engine::StoreLimits) -> Result<(), SettingsError> {
    put(&mut store.tagged, reader.switch("store-collect-tagged")?);
    put(
        &mut store.partial_max,
        reader.one("store-max-partial", values::bytes)?,
    );
    for (key, place) in [
        ("store-max-size", &mut store.max_size),
        ("store-min-free", &mut store.min_free),
    ] {
        if reader.word(key).is_some() {
            *place = reader.one(key, values::bytes)?;
        }
    }
    let seconds = reader.number::<u64>("store-interval", 1, 86400)?;
    put(&mut store.interval, seconds.map(Duration::from_secs));
    let hours = |key| -> Result<Option<Duration>, SettingsError> {
        let hours = reader.number::<u64>(key, 0, 1_000_000)?;
        Ok(hours.map(|hours| Duration::from_secs(hours * 3600)))
    };
    put(&mut store.partial_for, hours("store-partial-hours")?);
    if let Some(unused) = hours("store-unused-hours")? {
        // none and 0 are the same: nothing goes for its age
        store.unused_for = Some(unused).filter(|unused| !unused.is_zero());
    }
    Ok(())
}

/// What the build engine goes by.
fn builds(reader: &Reader<'_>, builder: &mut builder::Settings) -> Result<(), SettingsError> {
    for (key, place) in [
        ("build-cache-max-size", &mut builder.cache_max_size),
        ("build-cache-min-free", &mut builder.cache_min_free),
    ] {
        if reader.word(key).is_some() {
            *place = reader.one(key, values::bytes)?;
        }
    }
    if let Some(most) = reader.number::<usize>("build-max-parallelism", 1, 100_000)? {
        builder.max_parallelism = Some(most);
    }
    Ok(())
}

/// What containers get that do not say.
fn containers(reader: &Reader<'_>, engine: &mut engine::Config) -> Result<(), SettingsError> {
    let lists = [
        ("dns-opt", &mut engine.dns_options),
        ("dns-search", &mut engine.dns_search),
    ];
    for (key, place) in lists {
        if let Some(given) = reader.given(key) {
            place.clone_from(&given.texts);
        }
    }
    let server = |text: &str| -> Result<IpAddr, String> {
        text.parse()
            .map_err(|_| format!("{text} is not an ip address"))
    };
    if reader.given("dns").is_some() {
        let servers = reader.each("dns", server)?;
        engine.dns = servers.iter().map(IpAddr::to_string).collect();
    }
    if reader.given("default-ulimit").is_some() {
        engine.default_ulimits = reader.each("default-ulimit", values::ulimit)?;
    }
    put(
        &mut engine.default_shm_size,
        reader.one("default-shm-size", values::size)?,
    );
    let either = |one: &'static str, other: &'static str| {
        move |text: &str| match text {
            _ if text == one || text == other => Ok(text.to_owned()),
            _ => Err(format!("must be {one} or {other}")),
        }
    };
    let cgroupns = reader.one("default-cgroupns-mode", either("private", "host"))?;
    put(&mut engine.default_cgroupns_mode, cgroupns);
    let ipc = reader.one("default-ipc-mode", either("private", "shareable"))?;
    put(&mut engine.default_ipc_mode, ipc);
    if let Some(user) = reader.word("userns-remap") {
        engine.userns_remap = Some(user.to_owned()).filter(|user| !user.is_empty());
    }
    put(&mut engine.init, reader.switch("init")?);
    put(
        &mut engine.no_new_privileges,
        reader.switch("no-new-privileges")?,
    );
    if let Some(driver) = reader.word("log-driver") {
        driver.clone_into(&mut engine.log_driver);
    }
    if reader.given("log-opt").is_some() {
        let options = reader.each("log-opt", values::pair)?;
        engine.log_opts = options.into_iter().collect::<BTreeMap<_, _>>();
    }
    if let Some(profile) = reader.one("seccomp-profile", values::seccomp)? {
        engine.seccomp_profile = profile;
    }
    Ok(())
}

fn registries(reader: &Reader<'_>, engine: &mut engine::Config) -> Result<(), SettingsError> {
    if let Some(given) = reader.given("insecure-registry") {
        engine.insecure_registries.clone_from(&given.texts);
    }
    if reader.given("registry-mirror").is_some() {
        engine.registry_mirrors = reader.each("registry-mirror", values::mirror)?;
    }
    if reader.given("label").is_some() {
        engine.labels = reader.each("label", values::label)?;
    }
    let packing = |text: &str| {
        text.parse()
            .map_err(|error: engine::ParsePackingError| error.to_string())
    };
    put(
        &mut engine.push_compression,
        reader.one("push-compression", packing)?,
    );
    engine.signature_policy = policy::read(reader.path("signature-policy"))?;
    put(
        &mut engine.max_concurrent_downloads,
        reader.number("max-concurrent-downloads", 1, 1000)?,
    );
    put(
        &mut engine.max_download_attempts,
        reader.number("max-download-attempts", 1, 1000)?,
    );
    let proxies = [
        ("http-proxy", &mut engine.http_proxy),
        ("https-proxy", &mut engine.https_proxy),
        ("no-proxy", &mut engine.no_proxy),
    ];
    for (key, place) in proxies {
        if let Some(text) = reader.text(key) {
            *place = Some(text.to_owned());
        }
    }
    Ok(())
}

fn tls(reader: &Reader<'_>) -> Result<Option<TlsFiles>, SettingsError> {
    let verify = reader.switch("tlsverify")? == Some(true);
    if !verify && reader.switch("tls")? != Some(true) {
        return Ok(None);
    }
    let home = std::env::var_os("HOME").map_or_else(|| PathBuf::from("/root"), PathBuf::from);
    let folder = std::env::var_os("DOCKER_CERT_PATH")
        .filter(|path| !path.is_empty())
        .map_or_else(|| home.join(".docker"), PathBuf::from);
    let file = |key, name| reader.path(key).unwrap_or_else(|| folder.join(name));
    Ok(Some(TlsFiles {
        authority: verify.then(|| file("tlscacert", "ca.pem")),
        certificate: file("tlscert", "cert.pem"),
        key: file("tlskey", "key.pem"),
    }))
}

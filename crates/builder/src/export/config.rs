//! The configuration of an image: what the front end says, with the layers that there are.

use std::collections::BTreeMap;

use jiff::Timestamp;
use oci::image::{History, RootFs};
use oci::{Digest, Platform};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::error::{Error, Result, Step};

/// The longest configuration that a front end may give.
const MAX: usize = 8 << 20;
/// What is said of layers that no history tells of.
const COMMENT: &str = "buildkit.exporter.image.v0";
/// Where a cache is kept inside an image.
pub(crate) const INLINE_CACHE: &str = "moby.buildkit.cache.v0";
/// The search path of programs where no image gives one.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What is known of a layer that a history may lack.
#[derive(Clone, Debug)]
pub(super) struct LayerFacts {
    pub(super) diff_id: Digest,
    pub(super) created: Timestamp,
    pub(super) description: String,
}

/// The configuration for a result of which the front end says nothing.
pub(super) fn empty(platform: &Platform) -> Result<Vec<u8>> {
    let mut config = serde_json::json!({
        "architecture": platform.architecture,
        "os": platform.os,
        "config": {"Env": [PATH], "WorkingDir": "/"},
    });
    if let Some(variant) = &platform.variant {
        config["variant"] = variant.clone().into();
    }
    serde_json::to_vec(&config).step(|| "write an image configuration")
}

/// The platform that a configuration names.
pub(super) fn platform(config: &[u8]) -> Result<Platform> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Named {
        architecture: String,
        os: String,
        variant: Option<String>,
    }
    let named: Named =
        serde_json::from_slice(config).map_err(|e| invalid("read its platform", &e))?;
    let host = Platform::host();
    if named.architecture.is_empty() {
        return Ok(host);
    }
    Ok(Platform {
        architecture: named.architecture,
        os: Some(named.os)
            .filter(|os| !os.is_empty())
            .unwrap_or(host.os),
        variant: named.variant.filter(|variant| !variant.is_empty()),
        os_version: None,
    })
}

fn invalid(step: &str, error: &serde_json::Error) -> Error {
    Error::invalid(format!("invalid image config: {step}: {error}"))
}

/// Completes a configuration by its layers: their diff ids, a history that tells of each, and times.
///
/// What is not known stays as the front end wrote it. The same input gives the same bytes.
pub(super) fn complete(
    config: &[u8],
    layers: &[LayerFacts],
    inline_cache: Option<&Value>,
    epoch: Option<Timestamp>,
) -> Result<Vec<u8>> {
    if config.len() > MAX {
        let text = format!("invalid image config: it has more than {MAX} bytes");
        return Err(Error::invalid(text));
    }
    let mut fields: BTreeMap<String, Box<RawValue>> =
        serde_json::from_slice(config).map_err(|e| invalid("read it", &e))?;
    let history = match fields.get("history") {
        Some(own) => serde_json::from_str::<Option<Vec<History>>>(own.get())
            .map_err(|e| invalid("read its history", &e))?,
        None => None,
    };
    let mut history = tell_all(history.unwrap_or_default(), layers);
    fill_times(&mut history, layers);
    if let Some(epoch) = epoch {
        history
            .iter_mut()
            .for_each(|one| clamp(&mut one.created, epoch));
    }
    let mut created: Option<String> = match fields.get("created") {
        Some(own) => serde_json::from_str(own.get()).map_err(|e| invalid("read its time", &e))?,
        None => history.iter().rev().find_map(|one| one.created.clone()),
    };
    if let Some(epoch) = epoch {
        clamp(&mut created, epoch);
    }
    let rootfs = RootFs {
        diff_ids: layers.iter().map(|layer| layer.diff_id.clone()).collect(),
        ..RootFs::default()
    };
    put(&mut fields, "rootfs", &rootfs)?;
    put(&mut fields, "history", &history)?;
    put(&mut fields, "created", &created)?;
    match inline_cache {
        Some(cache) => put(&mut fields, INLINE_CACHE, cache)?,
        // that of an image below is not of this one's layers
        None => drop(fields.remove(INLINE_CACHE)),
    }
    serde_json::to_vec(&fields).step(|| "write an image configuration")
}

fn put(
    fields: &mut BTreeMap<String, Box<RawValue>>,
    key: &str,
    value: &impl serde::Serialize,
) -> Result<()> {
    let raw = serde_json::value::to_raw_value(value);
    let raw = raw.step(|| format!("write the {key} of an image configuration"))?;
    fields.insert(key.to_owned(), raw);
    Ok(())
}

fn clamp(time: &mut Option<String>, latest: Timestamp) {
    let parsed: Option<Timestamp> = time.as_ref().and_then(|text| text.parse().ok());
    if parsed.is_none_or(|time| time > latest) {
        *time = Some(latest.to_string());
    }
}

/// Makes a history tell of exactly as many layers as there are.
fn tell_all(mut history: Vec<History>, layers: &[LayerFacts]) -> Vec<History> {
    let mut told = 0;
    for one in &mut history {
        // more than there are cannot be true: the last are taken for steps without a layer
        one.empty_layer |= told >= layers.len();
        told += usize::from(!one.empty_layer);
    }
    history.extend(layers.iter().skip(told).map(|layer| History {
        created: Some(layer.created.to_string()),
        created_by: Some(layer.description.clone()).filter(|text| !text.is_empty()),
        comment: Some(COMMENT.to_owned()),
        ..History::default()
    }));
    history
}

/// Gives each step a time: its layer's, or that of the first new layer, or of the step before.
fn fill_times(history: &mut [History], layers: &[LayerFacts]) {
    let mut facts = layers.iter();
    for one in history.iter_mut().filter(|one| !one.empty_layer) {
        let own = facts.next().map(|layer| layer.created.to_string());
        one.created = one.created.take().or(own);
    }
    // steps of the front end's own follow those of the base, whose times are old
    let begins = history.iter().position(|one| one.created.is_none());
    let after = history.iter().skip(begins.unwrap_or(0));
    let first_new = after.filter_map(|one| one.created.clone()).next();
    let mut last = history.iter().rev().find_map(|one| one.created.clone());
    if first_new.is_some() {
        last = first_new;
    }
    let mut missed = false;
    for one in history.iter_mut() {
        match &one.created {
            Some(own) if missed => last = Some(own.clone()),
            Some(_) => {}
            None => {
                missed = true;
                one.created.clone_from(&last);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(number: u8) -> LayerFacts {
        LayerFacts {
            diff_id: Digest::from_sha256(&[number; 32]),
            created: Timestamp::from_second(i64::from(number) * 1000).unwrap(),
            description: format!("step {number}"),
        }
    }

    fn completed(config: &str, layers: &[u8], epoch: Option<i64>) -> Value {
        let layers: Vec<LayerFacts> = layers.iter().map(|number| layer(*number)).collect();
        let epoch = epoch.map(|seconds| Timestamp::from_second(seconds).unwrap());
        let bytes = complete(config.as_bytes(), &layers, None, epoch).unwrap();
        serde_json::from_slice(&bytes).unwrap()
    }

    #[test]
    fn unknown_fields_stay() {
        let config = completed(
            r#"{"os":"linux","x":{"b":1,"a":[2]},"moby.buildkit.cache.v0":"old"}"#,
            &[],
            None,
        );
        assert_eq!(config["x"], serde_json::json!({"b": 1, "a": [2]}));
        assert!(config.get(INLINE_CACHE).is_none());
        assert_eq!(config["rootfs"]["type"], "layers");
    }

    #[test]
    fn layers_that_no_history_tells_of_are_added() {
        let config = completed(r#"{"history":[{"created_by":"base"}]}"#, &[1, 2], None);
        let history = config["history"].as_array().unwrap();
        assert_eq!(history.len(), 2);
        assert_eq!(history[0]["created"], "1970-01-01T00:16:40Z");
        assert_eq!(history[1]["created_by"], "step 2");
        assert_eq!(history[1]["comment"], COMMENT);
        assert_eq!(config["created"], "1970-01-01T00:33:20Z");
    }

    #[test]
    fn a_history_of_too_many_layers_is_cut() {
        let config = completed(r#"{"history":[{},{},{}]}"#, &[1], None);
        let history = config["history"].as_array().unwrap();
        let empty = |one: &Value| one["empty_layer"] == true;
        assert_eq!(
            history.iter().map(empty).collect::<Vec<_>>(),
            [false, true, true]
        );
    }

    #[test]
    fn steps_without_a_layer_get_the_time_of_the_first_new_one() {
        let text = r#"{"history":[
            {"created":"1970-01-01T00:00:01Z"},
            {"empty_layer":true},
            {"created_by":"run"},
            {"empty_layer":true}]}"#;
        let config = completed(text, &[1, 2], None);
        let times: Vec<&str> = config["history"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["created"].as_str().unwrap())
            .collect();
        assert_eq!(
            times,
            [
                "1970-01-01T00:00:01Z",
                "1970-01-01T00:33:20Z",
                "1970-01-01T00:33:20Z",
                "1970-01-01T00:33:20Z"
            ]
        );
    }

    #[test]
    fn an_epoch_clamps_all_times() {
        let text =
            r#"{"created":"2020-01-01T00:00:00Z","history":[{"created":"1970-01-01T00:00:01Z"}]}"#;
        let config = completed(text, &[1, 2], Some(5));
        assert_eq!(config["created"], "1970-01-01T00:00:05Z");
        assert_eq!(config["history"][0]["created"], "1970-01-01T00:00:01Z");
        assert_eq!(config["history"][1]["created"], "1970-01-01T00:00:05Z");
        assert_eq!(config, completed(text, &[1, 2], Some(5)));
    }

    #[test]
    fn wrong_configurations_are_refused() {
        for text in ["", "[]", "null", r#"{"history":1}"#, r#"{"created":1}"#] {
            assert!(
                complete(text.as_bytes(), &[], None, None).is_err(),
                "{text}"
            );
        }
    }

    #[test]
    fn platforms() {
        let host = Platform::host();
        let config = empty(&host).unwrap();
        assert_eq!(platform(&config).unwrap(), host);
        let arm = br#"{"architecture":"arm","os":"linux","variant":"v7"}"#;
        assert_eq!(platform(arm).unwrap().to_string(), "linux/arm/v7");
        assert_eq!(platform(b"{}").unwrap(), host);
    }
}

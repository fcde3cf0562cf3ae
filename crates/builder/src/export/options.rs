//! The attributes of an exporter, as clients send them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use storage::Packing;

use super::annotations::Annotations;
use crate::error::{Error, Result};

/// The attribute by which a client takes a registry without TLS, or with a certificate that proves nothing.
pub(crate) const INSECURE: &str = "registry.insecure";
/// The levels that the packers take.
const GZIP_LEVELS: std::ops::RangeInclusive<i32> = 1..=9;
const ZSTD_LEVELS: std::ops::RangeInclusive<i32> = 1..=19;

/// How the layers of an image are packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Packed {
    /// As they are.
    #[default]
    AsIs,
    /// Plain tars, where `force` is set those that are packed, too.
    Plain,
    /// Packed.
    By(Packing),
}

/// What an exporter of images goes by.
#[derive(Clone, Debug, Default)]
pub(super) struct Options {
    /// Names without defaults, as they were given.
    pub(super) names: Vec<String>,
    pub(super) push: bool,
    pub(super) push_by_digest: bool,
    /// Whether registries need not prove who they are.
    pub(super) insecure: bool,
    pub(super) store: bool,
    pub(super) name_canonical: bool,
    pub(super) dangling_prefix: String,
    /// Whether documents have OCI's media types; the exporter's own way where absent.
    pub(super) oci_types: Option<bool>,
    pub(super) packed: Packed,
    /// Whether layers are packed anew that are packed in another way.
    pub(super) force: bool,
    pub(super) annotations: Annotations,
    pub(super) epoch: Option<Timestamp>,
    pub(super) rewrite_timestamp: bool,
    /// Whether the result is one stream, for exporters that can give a folder, too.
    pub(super) tar: bool,
    /// Whether statements are attached that are not asked for by themselves.
    pub(super) inline_attestations: bool,
    /// Whether each platform gets a folder of its own, where that is said.
    pub(super) platform_split: Option<bool>,
    /// What stands in front of the names of statements in folders.
    pub(super) attestation_prefix: String,
}

impl Options {
    /// Reads the attributes; what is not known is left, as BuildKit does.
    pub(super) fn read(attrs: &BTreeMap<String, String>) -> Result<Self> {
        let mut options = Self {
            store: true,
            tar: true,
            annotations: Annotations::read(attrs)?,
            ..Self::default()
        };
        let mut compression = None;
        let mut level = None;
        for (key, value) in attrs {
            let flag = || flag(key, value);
            match key.as_str() {
                "name" => options.names = names(value),
                "push" => options.push = flag()?,
                "push-by-digest" => options.push_by_digest = flag()?,
                "store" => options.store = flag()?,
                "name-canonical" => options.name_canonical = flag()?,
                "dangling-name-prefix" => options.dangling_prefix.clone_from(value),
                "oci-mediatypes" => options.oci_types = Some(flag()?),
                "compression" => compression = Some(value.as_str()),
                "compression-level" => level = Some(number(key, value)?),
                "force-compression" => options.force = flag()?,
                "source-date-epoch" => options.epoch = epoch(value)?,
                "rewrite-timestamp" => options.rewrite_timestamp = flag()?,
                "tar" => options.tar = flag()?,
                "attestation-inline" => options.inline_attestations = flag()?,
                "platform-split" => options.platform_split = Some(flag()?),
                "attestation-prefix" => options.attestation_prefix.clone_from(value),
                INSECURE => options.insecure = flag()?,
                "unpack" => drop(flag()?),
                _ => {}
            }
        }
        options.packed = packed(compression, level)?;
        if matches!(options.packed, Packed::By(Packing::Zstd(_))) {
            // Docker's own media types have no word for it
            options.oci_types = Some(true);
        }
        if options.rewrite_timestamp && options.epoch.is_none() {
            options.rewrite_timestamp = false;
        }
        Ok(options)
    }
}

/// Names of an image are told apart by commas.
fn names(text: &str) -> Vec<String> {
    let names = text.split(',').map(str::trim);
    names
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

/// A word for yes or no, as Go reads it; an attribute without a value is one for yes.
pub(crate) fn flag(key: &str, value: &str) -> Result<bool> {
    match value {
        "" | "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(Error::invalid(format!(
            "non-bool value specified for {key}: strconv.ParseBool: parsing {value:?}: invalid syntax"
        ))),
    }
}

fn number(key: &str, value: &str) -> Result<i32> {
    let wrong = |_| Error::invalid(format!("non-int value {value:?} specified for {key}"));
    value.parse().map_err(wrong)
}

/// `SOURCE_DATE_EPOCH`: seconds since 1970.
fn epoch(text: &str) -> Result<Option<Timestamp>> {
    if text.is_empty() {
        return Ok(None);
    }
    let seconds = text.parse().ok();
    let time = seconds.and_then(|seconds| Timestamp::from_second(seconds).ok());
    let wrong = || Error::invalid(format!("invalid SOURCE_DATE_EPOCH: {text}"));
    time.map(Some).ok_or_else(wrong)
}

fn packed(name: Option<&str>, level: Option<i32>) -> Result<Packed> {
    let within = |level: Option<i32>, levels: std::ops::RangeInclusive<i32>, usual: i32| {
        level.map_or(usual, |level| level.clamp(*levels.start(), *levels.end()))
    };
    match name {
        None | Some("") => Ok(Packed::AsIs),
        Some("uncompressed") => Ok(Packed::Plain),
        Some("gzip") => {
            let level = within(level, GZIP_LEVELS, 6);
            Ok(Packed::By(Packing::Gzip(level.unsigned_abs())))
        }
        Some("zstd") => Ok(Packed::By(Packing::Zstd(within(level, ZSTD_LEVELS, 3)))),
        Some("estargz") => Err(Error::invalid(
            "compression type estargz is not supported: use gzip, zstd or uncompressed",
        )),
        Some(other) => Err(Error::invalid(format!(
            "unsupported compression type {other}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(attrs: &[(&str, &str)]) -> Result<Options> {
        let attrs = attrs.iter();
        let attrs = attrs.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Options::read(&attrs.collect())
    }

    #[test]
    fn attributes() {
        let options = read(&[
            ("name", "a, b:1,"),
            ("push", ""),
            ("store", "false"),
            ("compression", "zstd"),
            ("compression-level", "22"),
            ("source-date-epoch", "10"),
            ("unknown", "x"),
        ])
        .unwrap();
        assert_eq!(options.names, ["a", "b:1"]);
        assert!(options.push && !options.store && options.tar);
        assert_eq!(options.packed, Packed::By(Packing::Zstd(19)));
        assert_eq!(options.oci_types, Some(true));
        assert_eq!(options.epoch, Timestamp::from_second(10).ok());
        let plain = read(&[("compression", "uncompressed")]).unwrap();
        assert_eq!(plain.packed, Packed::Plain);
        assert_eq!(read(&[]).unwrap().packed, Packed::AsIs);
    }

    #[test]
    fn wrong_attributes_are_refused() {
        for (key, value, message) in [
            ("push", "maybe", "non-bool value specified for push"),
            ("compression", "lz4", "unsupported compression type lz4"),
            ("compression", "estargz", "estargz is not supported"),
            ("compression-level", "x", "non-int value"),
            ("source-date-epoch", "x", "invalid SOURCE_DATE_EPOCH: x"),
        ] {
            let error = read(&[(key, value)]).unwrap_err();
            assert!(error.message().contains(message), "{key}={value}: {error}");
        }
    }
}

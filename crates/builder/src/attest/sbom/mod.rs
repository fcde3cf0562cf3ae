//! The software that an image holds, found by what package managers and compilers leave.
//!
//! The scanner reads files of the image and runs none: the records of dpkg, apk and rpm, the metadata
//! of Python's and Node's packages, Cargo's lock files, and what Go and Cargo write into programs.
//! Everything that it reads is hostile, so all of it is bounded.

mod apk;
mod bdb;
mod cargo;
mod dpkg;
mod elf;
mod go;
mod ndb;
mod npm;
mod python;
mod root;
mod rpm;
mod spdx;
mod sqlite;

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;

use jiff::Timestamp;

use super::purl;
use crate::error::{Result, Step};
use crate::export::Attestation;
use root::{Entry, Root};

/// What the statement is.
const PREDICATE: &str = "https://spdx.dev/Document";
/// The name of its file where results are folders.
const FILE: &str = "sbom.spdx.json";
/// Packages of one image at most.
const PACKAGES_MAX: usize = 200_000;

/// A package of some kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Package {
    /// The kind in package URLs, with the name of the distribution where there is one.
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) version: String,
    /// More of its package URL.
    pub(super) qualifiers: Vec<(&'static str, String)>,
    /// The file that tells of it.
    pub(super) found: String,
    /// Its licence, as it says itself.
    pub(super) license: String,
}

impl Package {
    fn new(kind: &str, name: &str, version: &str, found: &str) -> Self {
        Self {
            kind: kind.to_owned(),
            name: name.to_owned(),
            version: version.to_owned(),
            qualifiers: Vec::new(),
            found: format!("/{found}"),
            license: String::new(),
        }
    }

    fn with(mut self, key: &'static str, value: &str) -> Self {
        if !value.is_empty() {
            self.qualifiers.push((key, value.to_owned()));
        }
        self
    }

    fn purl(&self) -> String {
        let qualifiers = self.qualifiers.iter();
        let qualifiers: Vec<_> = qualifiers
            .map(|(key, value)| (*key, value.as_str()))
            .collect();
        purl::of_package(&self.kind, &self.name, &self.version, &qualifiers)
    }
}

/// The distribution of an image (os-release(5)).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Distribution {
    pub(super) id: String,
    pub(super) version: String,
}

impl Distribution {
    fn read(root: &Root) -> Self {
        let places = ["etc/os-release", "usr/lib/os-release"];
        let text = places.iter().find_map(|path| root.text(path, 64 << 10));
        Self::parse(&text.unwrap_or_default())
    }

    fn parse(text: &str) -> Self {
        let mut own = Self::default();
        for line in text.lines() {
            let Some((key, value)) = line.split_once('=') else {
                continue;
            };
            let value = value.trim().trim_matches(['"', '\'']).to_owned();
            match key.trim() {
                "ID" => own.id = value,
                "VERSION_ID" => own.version = value,
                _ => {}
            }
        }
        own
    }

    /// As package URLs have it: `debian-12`.
    fn name(&self) -> String {
        match (self.id.as_str(), self.version.as_str()) {
            (id, "") => id.to_owned(),
            (id, version) => format!("{id}-{version}"),
        }
    }

    fn id_or(&self, usual: &str) -> String {
        let own = Some(self.id.clone()).filter(|id| !id.is_empty());
        own.unwrap_or_else(|| usual.to_owned())
    }
}

/// Looks for the software below a directory. It blocks.
fn packages(root: &Root) -> BTreeSet<Package> {
    let distribution = Distribution::read(root);
    let mut found = BTreeSet::new();
    let mut add = |package: Package| {
        if found.len() < PACKAGES_MAX && !package.name.is_empty() {
            found.insert(package);
        }
    };
    dpkg::find(root, &distribution, &mut add);
    apk::find(root, &distribution, &mut add);
    rpm::find(root, &distribution, &mut add);
    root.walk(&mut |entry: &Entry<'_>| {
        python::look(entry, &mut add);
        npm::look(entry, &mut add);
        cargo::look(entry, &mut add);
        go::look(entry, &mut add);
    });
    found
}

/// States what software is in a tree, in the words of SPDX 2.3. It blocks.
///
/// # Errors
/// When the tree cannot be read at all.
pub fn scan(root: &OwnedFd, name: &str, created: Timestamp) -> Result<Attestation> {
    let root = Root::open(root).step(|| "read the files of an image")?;
    let found = packages(&root);
    Ok(Attestation {
        predicate_type: PREDICATE.to_owned(),
        predicate: spdx::document(&found, name, created),
        file: FILE.to_owned(),
        inline_only: false,
    })
}

#[cfg(test)]
mod tests;

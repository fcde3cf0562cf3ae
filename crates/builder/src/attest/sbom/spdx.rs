//! A list of packages in the words of SPDX 2.3.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::Package;

/// What is said where nothing is known.
const NOTHING: &str = "NOASSERTION";
/// Digits of a digest that tell packages of one name apart.
const DIGITS: usize = 16;

/// The document; the same packages give the same one.
pub(super) fn document(packages: &BTreeSet<Package>, name: &str, created: Timestamp) -> Value {
    let purls: Vec<String> = packages.iter().map(Package::purl).collect();
    let all = storage::digest_of(purls.join("\n").as_bytes());
    let seconds = Timestamp::from_second(created.as_second()).unwrap_or(created);
    let entries = packages.iter().zip(&purls);
    let entries: Vec<Value> = entries
        .map(|(package, purl)| entry(package, purl))
        .collect();
    let describes = entries.iter().map(|entry| {
        json!({
            "spdxElementId": "SPDXRef-DOCUMENT",
            "relatedSpdxElement": entry["SPDXID"],
            "relationshipType": "DESCRIBES",
        })
    });
    json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": name,
        "documentNamespace": format!("https://github.com/gorae/gorae/spdx/{}", all.hex()),
        "creationInfo": {
            "creators": [format!("Tool: gorae-{}", env!("CARGO_PKG_VERSION"))],
            "created": seconds.to_string(),
        },
        "relationships": describes.collect::<Vec<_>>(),
        "packages": entries,
    })
}

fn entry(package: &Package, purl: &str) -> Value {
    let own = storage::digest_of(format!("{purl}\n{}", package.found).as_bytes());
    let plain = |text: &str| -> String {
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
        text.chars()
            .map(|c| if good(c) { c } else { '-' })
            .collect()
    };
    let id = format!(
        "SPDXRef-Package-{}-{}-{}",
        plain(&package.kind),
        plain(&package.name),
        own.hex().get(..DIGITS).unwrap_or_default()
    );
    let mut entry = json!({
        "name": package.name,
        "SPDXID": id,
        "versionInfo": package.version,
        "supplier": NOTHING,
        "downloadLocation": NOTHING,
        "filesAnalyzed": false,
        "sourceInfo": format!("acquired package info from {}", package.found),
        "licenseConcluded": NOTHING,
        "licenseDeclared": NOTHING,
        "copyrightText": NOTHING,
        "externalRefs": [{
            "referenceCategory": "PACKAGE-MANAGER",
            "referenceType": "purl",
            "referenceLocator": purl,
        }],
    });
    if !package.license.is_empty() {
        // what packages say is no expression of SPDX for certain
        entry["licenseComments"] = package.license.clone().into();
    }
    entry
}

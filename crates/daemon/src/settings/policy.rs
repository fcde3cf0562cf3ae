//! The file that says which images must be signed: TOML, one table `[[rule]]` a rule.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use distribution::signature::{Identity, KEY_MAX, KeyError, PublicKey};
use engine::{Demand, SignaturePolicy, SignatureRule};
use oci::Reference;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::file;
use super::layer::Origin;

/// Where it is looked for.
const POLICY_FILE: &str = "/etc/gorae/policy.toml";

/// What a rule may say.
const KEYS: [&str; 4] = ["match", "require", "keys", "identity"];

/// A policy that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The file cannot be read as one.
    #[error("read policy {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<super::SettingsError>,
    },
    /// The file was named, and is not there.
    #[error("policy {path} does not exist")]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file is no policy.
    #[error("{origin}: {problem}")]
    Form {
        /// Where.
        origin: Origin,
        /// What is wrong.
        problem: String,
    },
    /// A key's file cannot be read.
    #[error("{origin}: read key {key}")]
    KeyFile {
        /// Where it is named.
        origin: Origin,
        /// The file.
        key: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A key is none.
    #[error("{origin}: key {key} cannot be used")]
    Key {
        /// Where it is named.
        origin: Origin,
        /// The file, or the place of the key itself.
        key: String,
        /// Why.
        #[source]
        source: KeyError,
    },
}

/// Reads a policy; none where there is no file at the usual place.
pub(super) fn read(named: Option<PathBuf>) -> Result<SignaturePolicy, PolicyError> {
    let path = named.unwrap_or_else(|| POLICY_FILE.into());
    let text = file::read(&path).map_err(|source| PolicyError::Read {
        path: path.clone(),
        source: Box::new(source),
    })?;
    match text {
        Some(text) => parse(&path, &text),
        None if path != Path::new(POLICY_FILE) => Err(PolicyError::Missing { path }),
        None => Ok(SignaturePolicy::default()),
    }
}

/// A file that is being read.
struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
}

type Table<'a> = DeTable<'a>;

fn parse(path: &Path, text: &str) -> Result<SignaturePolicy, PolicyError> {
    let reader = Reader { path, text };
    let table = DeTable::parse(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        reader.wrong(at, error.message().to_owned())
    })?;
    let mut rules = Vec::new();
    for (name, value) in table.get_ref() {
        let at = name.span().start;
        if name.get_ref() != "rule" {
            let problem = format!(
                "unknown key {:?}: a policy has tables [[rule]]",
                name.get_ref()
            );
            return Err(reader.wrong(at, problem));
        }
        let DeValue::Array(list) = value.get_ref() else {
            return Err(reader.wrong(at, "rule must be a list of tables, [[rule]]".to_owned()));
        };
        for entry in list {
            let DeValue::Table(rule) = entry.get_ref() else {
                return Err(reader.wrong(at, "rule must be a list of tables, [[rule]]".to_owned()));
            };
            rules.push(reader.rule(entry.span().start, rule)?);
        }
    }
    Ok(SignaturePolicy(rules))
}

impl Reader<'_> {
    fn origin(&self, at: usize) -> Origin {
        Origin::File {
            path: self.path.to_owned(),
            line: file::line_of(self.text, at),
        }
    }

    fn wrong(&self, at: usize, problem: String) -> PolicyError {
        PolicyError::Form {
            origin: self.origin(at),
            problem,
        }
    }

    fn rule(&self, at: usize, table: &Table<'_>) -> Result<SignatureRule, PolicyError> {
        for name in table.keys() {
            if !KEYS.contains(&name.get_ref().as_ref()) {
                let problem = format!(
                    "unknown key {:?}: a rule has {}",
                    name.get_ref(),
                    KEYS.join(", ")
                );
                return Err(self.wrong(name.span().start, problem));
            }
        }
        let pattern = self.text_of(table, "match", at)?.ok_or_else(|| {
            self.wrong(
                at,
                "the rule has no match: \"registry/repository\"".to_owned(),
            )
        })?;
        let (demand, keys) = (self.demand(table, at)?, self.keys(table, at)?);
        match demand {
            Demand::Signature | Demand::Warn if keys.is_empty() => {
                return Err(self.wrong(at, "the rule needs keys to verify with".to_owned()));
            }
            Demand::Ignore if !keys.is_empty() => {
                return Err(self.wrong(at, "the rule has keys and ignores signatures".to_owned()));
            }
            _ => {}
        }
        Ok(SignatureRule {
            pattern: self.pattern(&pattern, at)?,
            demand,
            keys,
            identity: self.identity(table, at)?,
            origin: self.origin(at).to_string(),
        })
    }

    fn text_of(
        &self,
        table: &Table<'_>,
        key: &str,
        at: usize,
    ) -> Result<Option<String>, PolicyError> {
        let Some(value) = table.get(key) else {
            return Ok(None);
        };
        match value.get_ref() {
            DeValue::String(text) => Ok(Some(text.to_string())),
            other => {
                let problem = format!("{key} must be a text in quotes, not {}", other.type_str());
                Err(self.wrong(start(value, at), problem))
            }
        }
    }

    /// A pattern that could mean a name. A bare name would never fit, for names have their registry in front.
    fn pattern(&self, text: &str, at: usize) -> Result<String, PolicyError> {
        let known =
            |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-:/*[]".contains(c);
        if text.is_empty() || !text.chars().all(known) {
            let problem = format!("match {text:?} can mean no repository");
            return Err(self.wrong(at, problem));
        }
        if !text.contains('/') && !text.contains("**") {
            let problem = format!(
                "match {text:?} has no registry: write docker.io/library/{text}, or **/{text}"
            );
            return Err(self.wrong(at, problem));
        }
        Ok(text.to_owned())
    }

    fn demand(&self, table: &Table<'_>, at: usize) -> Result<Demand, PolicyError> {
        match self.text_of(table, "require", at)?.as_deref() {
            Some("signature") => Ok(Demand::Signature),
            Some("warn") => Ok(Demand::Warn),
            Some("ignore") => Ok(Demand::Ignore),
            other => {
                let problem = format!(
                    "require must be \"signature\", \"warn\" or \"ignore\", not {:?}",
                    other.unwrap_or_default()
                );
                Err(self.wrong(at, problem))
            }
        }
    }

    fn identity(&self, table: &Table<'_>, at: usize) -> Result<Identity, PolicyError> {
        match self.text_of(table, "identity", at)?.as_deref() {
            None | Some("repository") => Ok(Identity::Repository),
            Some("any") => Ok(Identity::Any),
            Some(name) => match name.parse::<Reference>() {
                Ok(reference) if name.contains('/') => Ok(Identity::Named(reference.name())),
                _ => {
                    let problem = format!(
                        "identity must be \"repository\", \"any\" or a \"registry/repository\", not {name:?}"
                    );
                    Err(self.wrong(at, problem))
                }
            },
        }
    }

    fn keys(&self, table: &Table<'_>, at: usize) -> Result<Vec<PublicKey>, PolicyError> {
        let Some(value) = table.get("keys") else {
            return Ok(Vec::new());
        };
        let at = start(value, at);
        let DeValue::Array(list) = value.get_ref() else {
            return Err(self.wrong(at, "keys must be a list of files".to_owned()));
        };
        let mut keys = Vec::new();
        for entry in list {
            let DeValue::String(text) = entry.get_ref() else {
                return Err(self.wrong(at, "keys must be a list of files".to_owned()));
            };
            keys.push(self.key(text, at)?);
        }
        Ok(keys)
    }

    /// A key: the text itself in PEM, or a file, beside the policy unless its path is absolute.
    fn key(&self, text: &str, at: usize) -> Result<PublicKey, PolicyError> {
        if text.contains("-----BEGIN ") {
            return PublicKey::from_pem(text.as_bytes()).map_err(|source| PolicyError::Key {
                origin: self.origin(at),
                key: "in the policy itself".to_owned(),
                source,
            });
        }
        let folder = self.path.parent().unwrap_or_else(|| Path::new("/"));
        let path = folder.join(text);
        let pem = read_key(&path).map_err(|source| PolicyError::KeyFile {
            origin: self.origin(at),
            key: path.clone(),
            source,
        })?;
        PublicKey::from_pem(&pem).map_err(|source| PolicyError::Key {
            origin: self.origin(at),
            key: path.display().to_string(),
            source,
        })
    }
}

/// The beginning of a file: one byte more than a key may have is enough to refuse it.
fn read_key(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(KEY_MAX as u64 + 1)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn start(value: &Spanned<DeValue<'_>>, otherwise: usize) -> usize {
    match value.span().start {
        0 => otherwise,
        start => start,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use distribution::chain;
    use distribution::signature::PrivateKey;

    fn parsed(text: &str) -> Result<SignaturePolicy, String> {
        parse(Path::new("/p.toml"), text).map_err(|error| chain(&error))
    }

    #[test]
    fn rules() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy.toml");
        let (key, _) = PrivateKey::generate().unwrap();
        let (other, _) = PrivateKey::generate().unwrap();
        std::fs::write(folder.path().join("a.pub"), key.public_pem()).unwrap();
        let text = format!(
            "# ours\n[[rule]]\nmatch = 'r.example/a/*'\nrequire = 'signature'\nkeys = ['a.pub', \"\"\"{}\"\"\"]\n\
             [[rule]]\nmatch = '**'\nrequire = 'warn'\nkeys = ['a.pub']\nidentity = 'r.example/orig'\n\
             [[rule]]\nmatch = 'docker.io/**'\nrequire = 'ignore'\n",
            other.public_pem()
        );
        std::fs::write(&path, &text).unwrap();
        let SignaturePolicy(rules) = read(Some(path.clone())).unwrap();
        assert_eq!(rules.len(), 3);
        assert_eq!(
            rules[0].keys,
            [key.public().clone(), other.public().clone()]
        );
        assert_eq!(rules[0].origin, format!("{}:2", path.display()));
        assert_eq!(
            rules[1].identity,
            Identity::Named("r.example/orig".to_owned())
        );
        assert_eq!(rules[2].demand, Demand::Ignore);
        std::fs::remove_file(&path).unwrap();
        let error = read(Some(path)).unwrap_err();
        assert!(error.to_string().ends_with("does not exist"));
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        let pair = PrivateKey::generate().unwrap();
        let private = format!(
            "[[rule]]\nmatch = '**'\nrequire = 'warn'\nkeys = ['''{}''']",
            pair.1
        );
        for (text, expect) in [
            (
                "x = 1",
                "/p.toml:1: unknown key \"x\": a policy has tables [[rule]]",
            ),
            (
                "rule = 1",
                "/p.toml:1: rule must be a list of tables, [[rule]]",
            ),
            (
                "[[rule]]\nmatc = 'a'",
                "/p.toml:2: unknown key \"matc\": a rule has match, require, keys, identity",
            ),
            (
                "[[rule]]\nrequire = 'warn'",
                "/p.toml:1: the rule has no match: \"registry/repository\"",
            ),
            (
                "[[rule]]\nmatch = 7",
                "/p.toml:2: match must be a text in quotes, not integer",
            ),
            (
                "[[rule]]\nmatch = 'A/b'\nrequire = 'ignore'",
                "/p.toml:1: match \"A/b\" can mean no repository",
            ),
            (
                "[[rule]]\nmatch = 'busybox'\nrequire = 'ignore'",
                "/p.toml:1: match \"busybox\" has no registry: write docker.io/library/busybox, or **/busybox",
            ),
            (
                "[[rule]]\nmatch = '**'",
                "/p.toml:1: require must be \"signature\", \"warn\" or \"ignore\", not \"\"",
            ),
            (
                "[[rule]]\nmatch = '**'\nrequire = 'signature'",
                "/p.toml:1: the rule needs keys to verify with",
            ),
            (
                "[[rule]]\nmatch = '**'\nrequire = 'signature'\nkeys = 'a'",
                "/p.toml:4: keys must be a list of files",
            ),
            (
                "[[rule]]\nmatch = '**'\nrequire = 'signature'\nkeys = ['/none/a.pub']",
                "/p.toml:4: read key /none/a.pub: no such file or directory",
            ),
            (
                &private,
                "/p.toml:4: key in the policy itself cannot be used: it has no PEM block \"BEGIN PUBLIC KEY\": it is a private key",
            ),
            ("[[rule]\n", "/p.toml:1: "),
        ] {
            let found = parsed(text).unwrap_err();
            assert!(found.starts_with(expect), "{text}: {found}");
        }
    }
}

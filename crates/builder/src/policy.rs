//! Source policies: rules of a client about what its build may be made from, and what stands in for what.
//!
//! Rules are hostile as all that clients send: their number, their length and how often a source is
//! replaced are bounded, and a pattern takes time that grows with the text alone.

use std::collections::{BTreeMap, HashMap};

use bollard_buildkit_proto::moby::buildkit::v1::sourcepolicy::{
    AttrMatch, MatchType, Policy, PolicyAction, Rule, Selector,
};
use prost::Message as _;
use regex_lite::Regex;

use crate::error::{Error, Result};
use crate::llb::{Graph, digest_of, pb};

/// Rules of all policies together.
const MAX_RULES: usize = 10_000;
/// The longest identifier, pattern or value.
const MAX_TEXT: usize = 16 << 10;
/// How often a source is replaced by another before that counts as a circle.
const MAX_ROUNDS: usize = 20;

/// The policies of a build.
#[derive(Clone, Debug, Default)]
pub struct Policies(Vec<Checked>);

/// One policy.
#[derive(Clone, Debug)]
struct Checked(Vec<CheckedRule>);

/// A rule with its patterns read.
#[derive(Clone, Debug)]
struct CheckedRule {
    action: PolicyAction,
    identifier: String,
    /// What an identifier has to match that is not the selector's own.
    pattern: Option<Regex>,
    kind: MatchType,
    constraints: Vec<Constraint>,
    updates: Option<(String, HashMap<String, String>)>,
}

/// What an attribute has to be.
#[derive(Clone, Debug)]
enum Constraint {
    Equal(String, String),
    NotEqual(String, String),
    Matches(String, Regex),
}

fn pattern(text: &str) -> Result<Regex> {
    let wrong = |error| Error::invalid(format!("error matching source policy: {error}"));
    Regex::new(text).map_err(wrong)
}

/// A pattern of `*`, each of which is a group.
fn wildcard(text: &str) -> Result<Regex> {
    if text.contains("**") {
        return Err(Error::invalid(
            "error matching source policy: invalid wildcard: \"**\"",
        ));
    }
    let parts: Vec<String> = text.split('*').map(regex_lite::escape).collect();
    pattern(&format!("^{}$", parts.join("(.*)")))
}

impl Constraint {
    fn holds(&self, attrs: &BTreeMap<String, String>) -> bool {
        let value = |key: &String| attrs.get(key).map(String::as_str).unwrap_or_default();
        match self {
            Self::Equal(key, wanted) => value(key) == wanted,
            Self::NotEqual(key, wanted) => value(key) != wanted,
            Self::Matches(key, wanted) => wanted.is_match(value(key)),
        }
    }
}

impl CheckedRule {
    fn read(rule: Rule) -> Result<Self> {
        let action = rule.action();
        let missing = || Error::invalid("source policy: a rule without a selector");
        let selector = rule.selector.ok_or_else(missing)?;
        let kind = selector.match_type();
        let Selector {
            identifier,
            constraints,
            ..
        } = selector;
        let updates = rule.updates.map(|to| (to.identifier, to.attrs));
        let texts = constraints.iter().flat_map(|one| [&one.key, &one.value]);
        let texts = texts.chain([&identifier]);
        let given = updates.iter().flat_map(|(identifier, attrs)| {
            let attrs = attrs.iter().flat_map(|(key, value)| [key, value]);
            attrs.chain([identifier])
        });
        if texts.chain(given).any(|text| text.len() > MAX_TEXT) {
            return Err(Error::invalid("source policy: a rule is too long"));
        }
        if action == PolicyAction::Convert && updates.is_none() {
            return Err(Error::invalid(
                "error mutating source policy: missing destination for convert rule",
            ));
        }
        let constraints = constraints.into_iter().map(|one| {
            let condition = one.condition();
            Ok(match condition {
                AttrMatch::Equal => Constraint::Equal(one.key, one.value),
                AttrMatch::Notequal => Constraint::NotEqual(one.key, one.value),
                AttrMatch::Matches => Constraint::Matches(one.key, pattern(&one.value)?),
            })
        });
        Ok(Self {
            action,
            pattern: match kind {
                MatchType::Exact => None,
                MatchType::Regex => Some(pattern(&identifier)?),
                MatchType::Wildcard => Some(wildcard(&identifier)?),
            },
            identifier,
            kind,
            constraints: constraints.collect::<Result<_>>()?,
            updates,
        })
    }

    fn matches(&self, source: &pb::SourceOp) -> bool {
        let constraints = &self.constraints;
        if !constraints.iter().all(|one| one.holds(&source.attrs)) {
            return false;
        }
        let pattern = self.pattern.as_ref();
        self.identifier == source.identifier
            || pattern.is_some_and(|pattern| pattern.is_match(&source.identifier))
    }

    /// Replaces what the rule says; tells whether anything is another than before.
    fn convert(&self, source: &mut pb::SourceOp) -> bool {
        let Some((identifier, attrs)) = &self.updates else {
            return false;
        };
        let given = match identifier.is_empty() {
            true => &self.identifier,
            false => identifier,
        };
        let now = match (&self.pattern, self.kind) {
            (Some(pattern), MatchType::Regex) => {
                let replaced = pattern.replace_all(&source.identifier, given.as_str());
                replaced.into_owned()
            }
            (Some(pattern), MatchType::Wildcard) => match pattern.captures(&source.identifier) {
                Some(groups) => {
                    let mut text = String::new();
                    groups.expand(given, &mut text);
                    text
                }
                None => given.clone(),
            },
            _ => given.clone(),
        };
        let mut changed = false;
        if !now.is_empty() && now != source.identifier {
            source.identifier = now;
            changed = true;
        }
        for (key, value) in attrs {
            if source.attrs.get(key) != Some(value) {
                source.attrs.insert(key.clone(), value.clone());
                changed = true;
            }
        }
        changed
    }
}

impl Checked {
    /// Asks the rules once; tells whether the source was replaced.
    fn ask(&self, source: &mut pb::SourceOp) -> Result<bool> {
        let mut denied = false;
        for rule in &self.0 {
            if !rule.matches(source) {
                continue;
            }
            match rule.action {
                PolicyAction::Allow => denied = false,
                PolicyAction::Deny => denied = true,
                PolicyAction::Convert => {
                    if rule.convert(source) {
                        return Ok(true);
                    }
                }
            }
        }
        if denied {
            return Err(Error::forbidden(format!(
                "source {:?} denied by policy: source denied by policy",
                source.identifier
            )));
        }
        Ok(false)
    }
}

impl Policies {
    /// Reads policies.
    ///
    /// # Errors
    /// When a rule makes no sense, or there are too many.
    pub fn read(policies: Vec<Policy>) -> Result<Self> {
        let rules: usize = policies.iter().map(|policy| policy.rules.len()).sum();
        if rules > MAX_RULES {
            return Err(Error::invalid("source policy: too many rules"));
        }
        let policies = policies.into_iter().map(|policy| {
            let rules = policy.rules.into_iter().map(CheckedRule::read);
            Ok(Checked(rules.collect::<Result<_>>()?))
        });
        Ok(Self(policies.collect::<Result<_>>()?))
    }

    /// These and others after them.
    #[must_use]
    pub fn and(&self, others: &Self) -> Self {
        Self(self.0.iter().chain(&others.0).cloned().collect())
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Asks about a source, which is replaced where a rule says so; tells whether it was.
    ///
    /// # Errors
    /// When it is denied, or replaced in a circle.
    pub fn apply(&self, source: &mut pb::SourceOp) -> Result<bool> {
        let mut changed = false;
        for _ in 0..=MAX_ROUNDS {
            let mut again = false;
            for policy in &self.0 {
                again = policy.ask(source)?;
                if again {
                    break;
                }
            }
            if !again {
                return Ok(changed);
            }
            changed = true;
            if source.identifier.len() > MAX_TEXT {
                return Err(Error::invalid("source policy: an identifier is too long"));
            }
        }
        Err(Error::invalid(
            "too many mutations on a single source: too many operations",
        ))
    }

    /// Asks about all sources of a graph; a definition with others in their places is answered where one
    /// was replaced.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub fn convert(
        &self,
        definition: &pb::Definition,
        graph: &Graph,
    ) -> Result<Option<pb::Definition>> {
        let mut names: HashMap<String, String> = HashMap::new();
        let mut made = pb::Definition {
            source: definition.source.clone(),
            ..pb::Definition::default()
        };
        let sent = definition.def.iter();
        let sent: HashMap<_, _> = sent.map(|bytes| (digest_of(bytes), bytes)).collect();
        for digest in &graph.order {
            let Some(vertex) = graph.vertices.get(digest) else {
                continue;
            };
            let mut op = vertex.op.clone();
            let mut changed = rename(&mut op, &names);
            if let Some(pb::op::Op::Source(source)) = &mut op.op {
                changed |= self.apply(source)?;
            }
            let old = digest.to_string();
            // the bytes as they were sent are what the digest is of
            let bytes = match sent.get(digest).filter(|_| !changed) {
                Some(bytes) => Vec::clone(bytes),
                None => op.encode_to_vec(),
            };
            let new = digest_of(&bytes).to_string();
            if let Some(about) = definition.metadata.get(&old) {
                made.metadata.insert(new.clone(), about.clone());
            }
            if let Some(source) = &mut made.source
                && new != old
                && let Some(places) = source.locations.remove(&old)
            {
                source.locations.insert(new.clone(), places);
            }
            made.def.push(bytes);
            names.insert(old, new);
        }
        if names.iter().all(|(old, new)| old == new) {
            return Ok(None);
        }
        let target = graph.target.vertex.to_string();
        let last = pb::Op {
            inputs: vec![pb::Input {
                digest: names.get(&target).cloned().unwrap_or(target),
                index: graph.target.output.into(),
            }],
            ..pb::Op::default()
        };
        made.def.push(last.encode_to_vec());
        Ok(Some(made))
    }
}

/// Gives inputs their new names.
fn rename(op: &mut pb::Op, names: &HashMap<String, String>) -> bool {
    let mut changed = false;
    for input in &mut op.inputs {
        if let Some(new) = names.get(&input.digest).filter(|new| **new != input.digest) {
            input.digest.clone_from(new);
            changed = true;
        }
    }
    changed
}

#[cfg(test)]
mod tests {
    use bollard_buildkit_proto::moby::buildkit::v1::sourcepolicy::{AttrConstraint, Update};

    use super::*;

    fn rule(action: PolicyAction, kind: MatchType, from: &str, to: Option<&str>) -> Rule {
        Rule {
            action: action.into(),
            selector: Some(Selector {
                identifier: from.to_owned(),
                match_type: kind.into(),
                constraints: Vec::new(),
            }),
            updates: to.map(|to| Update {
                identifier: to.to_owned(),
                attrs: HashMap::new(),
            }),
        }
    }

    fn policies(rules: Vec<Rule>) -> Policies {
        Policies::read(vec![Policy { version: 1, rules }]).unwrap()
    }

    fn ask(policies: &Policies, identifier: &str) -> Result<String> {
        let mut source = pb::SourceOp {
            identifier: identifier.to_owned(),
            ..pb::SourceOp::default()
        };
        policies.apply(&mut source)?;
        Ok(source.identifier)
    }

    #[test]
    fn the_last_word_counts() {
        use MatchType::{Exact, Regex, Wildcard};
        use PolicyAction::{Allow, Deny};
        let alpine = "docker-image://docker.io/library/alpine:latest";
        for (rules, allowed) in [
            (vec![], true),
            (vec![rule(Deny, Wildcard, "*", None)], false),
            (
                vec![
                    rule(Deny, Wildcard, "*", None),
                    rule(Allow, Wildcard, "docker-image://docker.io/library/*", None),
                ],
                true,
            ),
            (
                vec![
                    rule(Allow, Exact, alpine, None),
                    rule(Deny, Regex, r"^docker-image://.*/alpine:\w+$", None),
                ],
                false,
            ),
            (vec![rule(Deny, Exact, "docker-image://*", None)], true),
            (vec![rule(Deny, Regex, "busybox", None)], true),
        ] {
            let asked = ask(&policies(rules.clone()), alpine);
            assert_eq!(asked.is_ok(), allowed, "{rules:?}");
        }
        let denied = ask(&policies(vec![rule(Deny, Wildcard, "*", None)]), alpine);
        assert_eq!(
            denied.unwrap_err().message(),
            format!("source {alpine:?} denied by policy: source denied by policy")
        );
    }

    #[test]
    fn one_stands_in_for_another() {
        use MatchType::{Exact, Regex, Wildcard};
        use PolicyAction::{Convert, Deny};
        for (rules, from, to) in [
            (
                vec![rule(Convert, Exact, "a://b", Some("c://d"))],
                "a://b",
                "c://d",
            ),
            (
                vec![rule(Convert, Wildcard, "a://*:*", Some("c://$2/${1}x"))],
                "a://b:1",
                "c://1/bx",
            ),
            (
                vec![rule(Convert, Regex, r"^a://(\w+)$", Some("c://$1"))],
                "a://b",
                "c://b",
            ),
            (
                vec![
                    rule(Convert, Exact, "a", Some("b")),
                    rule(Convert, Exact, "b", Some("c")),
                ],
                "a",
                "c",
            ),
        ] {
            assert_eq!(ask(&policies(rules), from).unwrap(), to);
        }
        // what it becomes is asked about, too
        let rules = vec![
            rule(Convert, Exact, "a", Some("b")),
            rule(Deny, Exact, "b", None),
        ];
        ask(&policies(rules), "a").unwrap_err();
        let circle = vec![
            rule(Convert, Exact, "a", Some("b")),
            rule(Convert, Exact, "b", Some("a")),
        ];
        let error = ask(&policies(circle), "a").unwrap_err();
        assert!(error.message().contains("too many operations"), "{error}");
        let longer = vec![rule(Convert, Wildcard, "a*", Some("aaaa$1$1"))];
        ask(&policies(longer), "ab").unwrap_err();
    }

    #[test]
    fn attributes_are_asked_about_and_set() {
        let mut wanted = rule(
            PolicyAction::Convert,
            MatchType::Exact,
            "https://x",
            Some(""),
        );
        if let (Some(selector), Some(updates)) = (&mut wanted.selector, &mut wanted.updates) {
            selector.constraints.push(AttrConstraint {
                key: "http.checksum".to_owned(),
                value: String::new(),
                condition: AttrMatch::Equal.into(),
            });
            let sum = ("http.checksum".to_owned(), "sha256:1".to_owned());
            updates.attrs.extend([sum]);
        }
        let policies = policies(vec![wanted]);
        let mut source = pb::SourceOp {
            identifier: "https://x".to_owned(),
            ..pb::SourceOp::default()
        };
        assert!(policies.apply(&mut source).unwrap());
        assert_eq!(source.attrs["http.checksum"], "sha256:1");
        assert!(!policies.apply(&mut source).unwrap());
    }

    #[test]
    fn rules_that_make_no_sense() {
        use PolicyAction::{Convert, Deny};
        for wrong in [
            Rule {
                action: Deny.into(),
                ..Rule::default()
            },
            rule(Convert, MatchType::Exact, "a", None),
            rule(Deny, MatchType::Regex, "(", None),
            rule(Deny, MatchType::Wildcard, "a**b", None),
            rule(Deny, MatchType::Exact, &"x".repeat(MAX_TEXT + 1), None),
        ] {
            let read = Policies::read(vec![Policy {
                version: 1,
                rules: vec![wrong.clone()],
            }]);
            assert!(read.is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn graphs_get_other_sources() {
        let source = pb::Op {
            op: Some(pb::op::Op::Source(pb::SourceOp {
                identifier: "docker-image://a".to_owned(),
                ..pb::SourceOp::default()
            })),
            ..pb::Op::default()
        }
        .encode_to_vec();
        let input = |bytes: &[u8]| pb::Input {
            digest: digest_of(bytes).to_string(),
            index: 0,
        };
        let file = pb::Op {
            inputs: vec![input(&source)],
            op: Some(pb::op::Op::File(pb::FileOp {
                actions: vec![pb::FileAction {
                    input: 0,
                    secondary_input: -1,
                    output: 0,
                    action: Some(pb::file_action::Action::Mkdir(pb::FileActionMkDir {
                        path: "/x".to_owned(),
                        ..pb::FileActionMkDir::default()
                    })),
                }],
            })),
            ..pb::Op::default()
        }
        .encode_to_vec();
        let last = pb::Op {
            inputs: vec![input(&file)],
            ..pb::Op::default()
        };
        let named = pb::OpMetadata {
            ignore_cache: true,
            ..pb::OpMetadata::default()
        };
        let definition = pb::Definition {
            metadata: [(digest_of(&file).to_string(), named)].into(),
            def: vec![source, file, last.encode_to_vec()],
            ..pb::Definition::default()
        };
        let graph = Graph::decode(&definition).unwrap().unwrap();
        let convert = |to: &str| {
            let kind = MatchType::Exact;
            let from = "docker-image://a";
            let rules = vec![rule(PolicyAction::Convert, kind, from, Some(to))];
            policies(rules).convert(&definition, &graph).unwrap()
        };
        assert!(convert("docker-image://a").is_none());
        let made = convert("docker-image://b").unwrap();
        let graph = Graph::decode(&made).unwrap().unwrap();
        assert_eq!(graph.order.len(), 2);
        let first = &graph.vertices[&graph.order[0]];
        assert!(
            matches!(&first.op.op, Some(pb::op::Op::Source(op)) if op.identifier == "docker-image://b")
        );
        assert!(graph.vertices[&graph.order[1]].metadata.ignore_cache);
    }
}

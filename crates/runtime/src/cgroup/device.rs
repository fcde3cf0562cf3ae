//! Which device nodes a container may use: rules, put in order once for both versions.
//!
//! A list of rules is read as OCI means it: the last one that matches an access decides. It is kept as a verdict for
//! everything and the rules that still matter beside it.

use oci::runtime::DeviceRule;

use super::error::CgroupError;
use super::{Place, device_program, file};

/// What is done with an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Allow,
    Deny,
}

/// Letters of `rwm` as the kernel's `BPF_DEVCG_ACC_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Access(pub(super) u8);

impl Access {
    const MKNOD: Self = Self(1);
    pub(super) const ALL: Self = Self(7);
    const LETTERS: [(char, u8); 3] = [('r', 2), ('w', 4), ('m', 1)];

    fn parse(text: &str) -> Option<Self> {
        let mut bits = 0;
        for letter in text.chars() {
            bits |= Self::LETTERS.iter().find(|row| row.0 == letter)?.1;
        }
        (bits != 0).then_some(Self(bits))
    }

    fn letters(self) -> String {
        let has = |row: &&(char, u8)| self.0 & row.1 != 0;
        Self::LETTERS.iter().filter(has).map(|row| row.0).collect()
    }
}

/// A kind of device node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Char,
    Block,
}

/// Device nodes of a kind; `None` is every number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Nodes {
    pub(super) kind: Kind,
    pub(super) major: Option<u32>,
    pub(super) minor: Option<u32>,
}

impl Nodes {
    fn covers(self, other: Self) -> bool {
        self.kind == other.kind
            && (self.major.is_none() || self.major == other.major)
            && (self.minor.is_none() || self.minor == other.minor)
    }

    fn overlaps(self, other: Self) -> bool {
        let meet = |a: Option<u32>, b: Option<u32>| a.is_none() || b.is_none() || a == b;
        self.kind == other.kind && meet(self.major, other.major) && meet(self.minor, other.minor)
    }
}

/// A rule of the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) verdict: Verdict,
    pub(super) nodes: Nodes,
    pub(super) access: Access,
}

impl Rule {
    fn meets(&self, other: &Self) -> bool {
        self.access.0 & other.access.0 != 0 && self.nodes.overlaps(other.nodes)
    }

    /// As v1's files write it, `c 1:3 rwm`.
    fn text(&self) -> String {
        let kind = match self.nodes.kind {
            Kind::Char => 'c',
            Kind::Block => 'b',
        };
        let number = |number: Option<u32>| {
            number.map_or_else(|| "*".to_owned(), |number| number.to_string())
        };
        let (major, minor) = (number(self.nodes.major), number(self.nodes.minor));
        format!("{kind} {major}:{minor} {}", self.access.letters())
    }
}

/// Rules in their shortest form: the last one that matches decides, else the default does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Policy {
    pub(super) default: Verdict,
    pub(super) rules: Vec<Rule>,
}

impl Policy {
    /// Reads rules and adds those that every container needs. Without a rule for everything, everything is denied.
    pub(super) fn new(rules: &[DeviceRule]) -> Result<Self, CgroupError> {
        let mut policy = Self {
            default: Verdict::Deny,
            rules: Vec::new(),
        };
        for rule in rules {
            policy.add(rule)?;
        }
        for rule in always() {
            policy.push(rule);
        }
        Ok(policy)
    }

    fn add(&mut self, rule: &DeviceRule) -> Result<(), CgroupError> {
        let wrong = || CgroupError::DeviceRule {
            rule: format!("{rule:?}"),
        };
        let verdict = if rule.allow {
            Verdict::Allow
        } else {
            Verdict::Deny
        };
        let access = Access::parse(rule.access.as_deref().unwrap_or("rwm")).ok_or_else(wrong)?;
        // the kernel's device numbers: 12 bits and 20 bits
        let major = number(rule.major, 0xfff).ok_or_else(wrong)?;
        let minor = number(rule.minor, 0xf_ffff).ok_or_else(wrong)?;
        let kinds: &[Kind] = match rule.kind.as_deref() {
            None | Some("" | "a") => &[Kind::Char, Kind::Block],
            Some("c" | "u") => &[Kind::Char],
            Some("b") => &[Kind::Block],
            Some(_) => return Err(wrong()),
        };
        if kinds.len() == 2 && access == Access::ALL && major.is_none() && minor.is_none() {
            self.default = verdict;
            self.rules.clear();
            return Ok(());
        }
        for &kind in kinds {
            let nodes = Nodes { kind, major, minor };
            self.push(Rule {
                verdict,
                nodes,
                access,
            });
        }
        Ok(())
    }

    /// Adds a rule; takes from the earlier ones what it outdoes, and leaves it out where it changes nothing.
    fn push(&mut self, rule: Rule) {
        for earlier in &mut self.rules {
            let rest = earlier.access.0 & !rule.access.0;
            let outdone = rest == 0 || earlier.verdict != rule.verdict;
            if rule.nodes.covers(earlier.nodes) && outdone {
                earlier.access.0 = rest;
            }
        }
        self.rules.retain(|earlier| earlier.access.0 != 0);
        let contradicted = self
            .rules
            .iter()
            .any(|earlier| earlier.meets(&rule) && earlier.verdict != rule.verdict);
        if rule.verdict == self.default && !contradicted {
            return;
        }
        self.rules.push(rule);
    }

    /// Writes the difference to what holds into v1's files.
    pub(super) fn apply_v1(&self, place: Place<'_>) -> Result<(), CgroupError> {
        // v1 knows one verdict and its exceptions, without an order
        if let Some(rule) = self.rules.iter().find(|rule| rule.verdict == self.default) {
            return Err(CgroupError::DeviceOverlap { rule: rule.text() });
        }
        let wanted: Vec<String> = self.rules.iter().map(Rule::text).collect();
        let now = place.read("devices.list")?;
        let allows_all = now.lines().any(|line| line.starts_with('a'));
        match (self.default, allows_all) {
            (Verdict::Allow, true) => deny(place, &wanted),
            (Verdict::Allow, false) => {
                place.write("devices.allow", "a")?;
                deny(place, &wanted)
            }
            (Verdict::Deny, true) => {
                place.write("devices.deny", "a")?;
                allow(place, &wanted)
            }
            // the container runs: at no moment it lacks what it had and keeps
            (Verdict::Deny, false) => {
                let now: Vec<String> = now.lines().map(str::to_owned).collect();
                allow(place, &without(&wanted, &now))?;
                deny(place, &without(&now, &wanted))
            }
        }
    }

    /// Gives the v2 directory a program of these rules.
    pub(super) fn apply_v2(&self, place: Place<'_>) -> Result<(), CgroupError> {
        device_program::install(self, place.dir)
    }
}

fn without(some: &[String], others: &[String]) -> Vec<String> {
    let mut rest = some.to_vec();
    rest.retain(|one| !others.contains(one));
    rest
}

fn allow(place: Place<'_>, rules: &[String]) -> Result<(), CgroupError> {
    write_all(place, "devices.allow", rules)
}

fn deny(place: Place<'_>, rules: &[String]) -> Result<(), CgroupError> {
    write_all(place, "devices.deny", rules)
}

fn write_all(place: Place<'_>, name: &str, rules: &[String]) -> Result<(), CgroupError> {
    if rules.is_empty() {
        return Ok(());
    }
    file::write_all(&place.file(name), rules.iter().map(String::as_str))
}

/// `Some(None)` for every number, `None` for one that no device has.
fn number(given: Option<i64>, greatest: u32) -> Option<Option<u32>> {
    match given {
        None | Some(i64::MIN..=-1) => Some(None),
        Some(number) => {
            let number = u32::try_from(number).ok()?;
            (number <= greatest).then_some(Some(number))
        }
    }
}

const NULL: (u32, u32) = (1, 3);
const ZERO: (u32, u32) = (1, 5);
const FULL: (u32, u32) = (1, 7);
const RANDOM: (u32, u32) = (1, 8);
const URANDOM: (u32, u32) = (1, 9);
const TTY: (u32, u32) = (5, 0);
const CONSOLE: (u32, u32) = (5, 1);
const PTMX: (u32, u32) = (5, 2);
const TUN: (u32, u32) = (10, 200);
const UNIX98_PTY: u32 = 136;

/// What the runtime itself gives every container; any node may be made, as making is not using.
fn always() -> impl Iterator<Item = Rule> {
    let nodes = |kind, major, minor| Nodes { kind, major, minor };
    let rule = |nodes, access| Rule {
        verdict: Verdict::Allow,
        nodes,
        access,
    };
    let making = [Kind::Char, Kind::Block].map(|kind| rule(nodes(kind, None, None), Access::MKNOD));
    let using = [NULL, RANDOM, FULL, TTY, ZERO, URANDOM, PTMX, TUN]
        .map(|(major, minor)| rule(nodes(Kind::Char, Some(major), Some(minor)), Access::ALL));
    let terminals = rule(nodes(Kind::Char, Some(UNIX98_PTY), None), Access::ALL);
    making.into_iter().chain(using).chain([terminals])
}

/// The rules of a container that asks for no device, as Docker's configurations have them.
pub fn default_rules() -> Vec<DeviceRule> {
    let everything = DeviceRule {
        access: Some("rwm".to_owned()),
        ..DeviceRule::default()
    };
    let nodes = [ZERO, NULL, URANDOM, RANDOM, TTY, CONSOLE];
    let allowed = nodes.map(|(major, minor)| DeviceRule {
        allow: true,
        kind: Some("c".to_owned()),
        major: Some(i64::from(major)),
        minor: Some(i64::from(minor)),
        access: Some("rwm".to_owned()),
    });
    std::iter::once(everything).chain(allowed).collect()
}

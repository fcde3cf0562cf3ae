//! Other owners' chains that packets must get through as well: a packet that one owner drops is
//! dropped, whatever we accept.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::netlink::{NetlinkError, Socket};
use crate::nft::{self, Family, Hook, Object, Outcome, What};

/// A chain of somebody else's that can stop forwarded or incoming traffic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// The family of the table, in `nft`'s words.
    pub family: String,
    /// The table.
    pub table: String,
    /// The chain.
    pub chain: String,
    /// Where it is called: "forward" or "input".
    pub hook: String,
    /// When, among all that are called there.
    pub priority: i32,
    /// What becomes of packets that no rule decides on: "accept" or "drop".
    pub policy: String,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            family,
            table,
            chain,
            hook,
            policy,
            ..
        } = self;
        write!(
            f,
            "table {family} {table}, chain {chain} (hook {hook}, policy {policy})"
        )
    }
}

/// The chains of one table, and what their rules may end in.
type Ends = BTreeMap<String, Vec<Outcome>>;

/// Lists base chains whose policy is to drop, or whose rules, or those that they jump to, can.
pub(super) fn find(socket: &mut Socket, ours: &str) -> Result<Vec<Obstacle>, NetlinkError> {
    let mut objects = nft::objects(socket, None)?;
    objects.retain(|object| object.table != ours);
    let mut ends: BTreeMap<(u8, &str), Ends> = BTreeMap::new();
    for object in &objects {
        let table = ends.entry((object.family, &object.table)).or_default();
        if let What::Rule {
            chain, expressions, ..
        } = &object.what
        {
            let outcomes = table.entry(chain.clone()).or_default();
            outcomes.extend(nft::outcomes(expressions));
            for map in nft::verdict_maps(expressions) {
                let more = nft::outcomes_of_map(socket, object.family, &object.table, &map)?;
                outcomes.extend(more);
            }
        }
    }
    Ok(objects
        .iter()
        .filter_map(|object| obstacle(object, ends.get(&(object.family, &object.table))?))
        .collect())
}

fn obstacle(object: &Object, ends: &Ends) -> Option<Obstacle> {
    let What::Chain {
        name,
        base: Some(base),
    } = &object.what
    else {
        return None;
    };
    let family = Family::of(object.family).filter(|family| *family != Family::Bridge)?;
    let hook = [(Hook::Forward, "forward"), (Hook::Input, "input")]
        .into_iter()
        .find(|(hook, _)| base.is_at(*hook))?
        .1;
    (base.drops() || can_drop(name, ends)).then(|| Obstacle {
        family: family.name().to_owned(),
        table: object.table.clone(),
        chain: name.clone(),
        hook: hook.to_owned(),
        priority: base.priority,
        policy: if base.drops() { "drop" } else { "accept" }.to_owned(),
    })
}

/// Follows jumps from a chain until one can drop.
fn can_drop(chain: &str, ends: &Ends) -> bool {
    let mut seen = BTreeSet::new();
    let mut next = vec![chain];
    while let Some(chain) = next.pop() {
        if !seen.insert(chain) {
            continue;
        }
        for outcome in ends.get(chain).into_iter().flatten() {
            match outcome {
                Outcome::Drop => return true,
                Outcome::Chain(target) => next.push(target),
            }
        }
    }
    false
}

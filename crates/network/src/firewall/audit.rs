//! Who can reach what.

/// Somebody who may or may not reach a published port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Who it is.
    pub who: String,
    /// Whether the port answers.
    pub reachable: bool,
    /// The rule that says so.
    pub rule: String,
}

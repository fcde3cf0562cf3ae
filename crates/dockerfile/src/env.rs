//! Environments: ordered lists of variables.

use std::collections::HashMap;

/// What variables are looked up in.
pub trait Lookup {
    /// The variable's value, if it is set.
    fn get(&self, name: &str) -> Option<&str>;
    /// The names of all variables.
    fn names(&self) -> Vec<&str>;
}

/// No variables at all.
#[derive(Clone, Copy, Debug)]
pub struct Nothing;

impl Lookup for Nothing {
    fn get(&self, _: &str) -> Option<&str> {
        None
    }

    fn names(&self) -> Vec<&str> {
        Vec::new()
    }
}

/// Variables in the order of their last assignment.
#[derive(Clone, Debug, Default)]
pub struct EnvList {
    // a variable that is set again leaves a hole and goes to the end
    entries: Vec<Option<(String, String)>>,
    index: HashMap<String, usize>,
}

impl EnvList {
    /// Sets a variable.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        if let Some(old) = self.index.get(name) {
            self.entries[*old] = None;
        }
        self.index.insert(name.to_owned(), self.entries.len());
        self.entries.push(Some((name.to_owned(), value.into())));
        if self.entries.len() > 64 && self.entries.len() > 2 * self.index.len() {
            self.compact();
        }
    }

    fn compact(&mut self) {
        self.entries.retain(Option::is_some);
        self.index = self
            .entries
            .iter()
            .enumerate()
            .filter_map(|(i, e)| Some((e.as_ref()?.0.clone(), i)))
            .collect();
    }

    /// How many variables there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// The variables with their values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries
            .iter()
            .flatten()
            .map(|(k, v)| (k.as_str(), v.as_str()))
    }

    /// The variables as `name=value`.
    #[must_use]
    pub fn to_array(&self) -> Vec<String> {
        self.iter().map(|(k, v)| format!("{k}={v}")).collect()
    }
}

impl Lookup for EnvList {
    fn get(&self, name: &str) -> Option<&str> {
        let at = *self.index.get(name)?;
        self.entries.get(at)?.as_ref().map(|(_, v)| v.as_str())
    }

    fn names(&self) -> Vec<&str> {
        self.iter().map(|(k, _)| k).collect()
    }
}

/// `name=value` in two; a text without `=` is a name with an empty value.
#[must_use]
pub fn split(text: &str) -> (&str, &str) {
    text.split_once('=').unwrap_or((text, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_order_of_the_last_assignment() {
        let mut env = EnvList::default();
        for i in 0..1000 {
            env.set("a", i.to_string());
            env.set("b", "x");
        }
        env.set("a", "last");
        assert_eq!(env.to_array(), ["b=x", "a=last"]);
        assert!(env.entries.len() < 200);
        assert_eq!(env.get("a"), Some("last"));
        assert_eq!(env.get("c"), None);
    }
}

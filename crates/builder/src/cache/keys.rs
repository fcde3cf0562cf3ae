//! What results are known by.

use oci::Digest;
use sha2::{Digest as _, Sha256};

/// How an input counts in a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// By how it was made: the primary key of what made it, and which of its outputs it is.
    Made {
        /// The primary key.
        primary: Digest,
        /// The output.
        output: u32,
    },
    /// By what it holds.
    Content(Digest),
}

/// The key of an operation by all its inputs. Keys in which all are [`Part::Made`] are fast, others slow.
#[must_use]
pub fn key(operation: &Digest, inputs: &[Part]) -> Digest {
    let mut sum = Sha256::new();
    sum.update(b"gorae build key 1\n");
    sum.update(operation.hex());
    for input in inputs {
        match input {
            Part::Made { primary, output } => {
                sum.update(b"\nmade ");
                sum.update(primary.hex());
                sum.update(output.to_be_bytes());
            }
            Part::Content(digest) => {
                sum.update(b"\nholds ");
                sum.update(digest.hex());
            }
        }
    }
    Digest::from_sha256(&sum.finalize().into())
}

/// The primary key of a run that was wanted although there was a result: what is made from it is made anew, too.
#[must_use]
pub fn of_run(fast: &Digest, id: &str) -> Digest {
    let mut sum = Sha256::new();
    sum.update(b"gorae build run 1\n");
    sum.update(fast.hex());
    sum.update(id);
    Digest::from_sha256(&sum.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(n: u8) -> Digest {
        Digest::from_sha256(&[n; 32])
    }

    fn made(n: u8, output: u32) -> Part {
        Part::Made {
            primary: digest(n),
            output,
        }
    }

    #[test]
    fn everything_counts() {
        let all = [
            key(&digest(1), &[]),
            key(&digest(2), &[]),
            key(&digest(1), &[made(2, 0)]),
            key(&digest(1), &[made(2, 1)]),
            key(&digest(1), &[made(3, 0)]),
            key(&digest(1), &[made(2, 0), made(3, 0)]),
            key(&digest(1), &[made(3, 0), made(2, 0)]),
            key(&digest(1), &[Part::Content(digest(2))]),
            of_run(&digest(1), "a"),
            of_run(&digest(1), "b"),
        ];
        let different: std::collections::HashSet<_> = all.iter().collect();
        assert_eq!(different.len(), all.len());
        assert_eq!(
            key(&digest(1), &[made(2, 0)]),
            key(&digest(1), &[made(2, 0)])
        );
    }
}

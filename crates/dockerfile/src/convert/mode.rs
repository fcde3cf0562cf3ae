//! `--chmod`: octal numbers and symbolic modes.

use super::ConvertError;

/// A mode: a number, or a symbolic one that the solver applies to each file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Octal(i32),
    Symbolic(String),
}

/// Reads a mode.
pub(super) fn parse(text: &str) -> Result<Mode, ConvertError> {
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        let number = i32::from_str_radix(text, 8).ok().filter(|n| *n <= 0o7777);
        return number
            .map(Mode::Octal)
            .ok_or_else(|| ConvertError::Octal(text.to_owned()));
    }
    if !text.is_empty() && text.split(',').all(is_clause) {
        return Ok(Mode::Symbolic(text.to_owned()));
    }
    Err(ConvertError::Mode)
}

/// `[ugoa]*` and then one or more of `[+-=]` with permissions or one of `u`, `g`, `o`.
fn is_clause(clause: &str) -> bool {
    let actions = clause.trim_start_matches(['u', 'g', 'o', 'a']);
    if !actions.starts_with(['+', '-', '=']) {
        return false;
    }
    actions.split(['+', '-', '=']).skip(1).all(|permissions| {
        matches!(permissions, "u" | "g" | "o")
            || permissions
                .chars()
                .all(|c| matches!(c, 'r' | 'w' | 'x' | 'X' | 's' | 't'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_modes() {
        assert_eq!(parse("0644").unwrap(), Mode::Octal(0o644));
        assert_eq!(parse("7777").unwrap(), Mode::Octal(0o7777));
        for good in ["u=rwX,go=rX", "+x", "a-w+x", "g=u"] {
            assert_eq!(parse(good).unwrap(), Mode::Symbolic(good.into()));
        }
        let said = |t| parse(t).unwrap_err().to_string();
        assert!(said("99999").contains("octal string"));
        assert!(said("17777").contains("octal string"));
        assert_eq!(said("foo"), "invalid syntax");
        assert_eq!(said("u=rw,"), "invalid syntax");
        assert_eq!(said("u"), "invalid syntax");
    }
}

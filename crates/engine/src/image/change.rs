//! The Dockerfile instructions that `commit` and `import` take to change an image's configuration.

use std::collections::BTreeMap;

use oci::image::{ContainerDefaults, Healthcheck};

use crate::error::{Error, Result};

/// Applies instructions in their order.
pub(super) fn apply(config: &mut ContainerDefaults, changes: &[String]) -> Result<()> {
    let mut command_given = false;
    // a client may send several in one text, as lines of a Dockerfile
    let lines = changes.iter().flat_map(|change| change.lines());
    for line in lines.map(str::trim).filter(|line| !line.is_empty()) {
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let word = word.to_ascii_uppercase();
        let rest = rest.trim();
        match word.as_str() {
            "CMD" => {
                config.cmd = Some(command(config, rest));
                command_given = true;
            }
            "ENTRYPOINT" => {
                config.entrypoint = Some(command(config, rest));
                if !command_given {
                    // the command was meant for another entry point
                    config.cmd = None;
                }
            }
            _ => apply_one(config, &word, rest)?,
        }
    }
    Ok(())
}

fn apply_one(config: &mut ContainerDefaults, word: &str, rest: &str) -> Result<()> {
    let known = [
        "ENV",
        "EXPOSE",
        "HEALTHCHECK",
        "LABEL",
        "ONBUILD",
        "STOPSIGNAL",
        "USER",
        "VOLUME",
        "WORKDIR",
    ];
    if !known.contains(&word) {
        return Err(Error::invalid(format!(
            "{word} is not a valid change command"
        )));
    }
    if rest.is_empty() {
        let count = match word {
            "USER" | "WORKDIR" | "STOPSIGNAL" => "exactly one argument",
            _ => "at least one argument",
        };
        return Err(Error::invalid(format!("{word} requires {count}")));
    }
    match word {
        "ENV" => {
            for (name, value) in pairs(rest, word)? {
                set_variable(config.env.get_or_insert_default(), &name, &value);
            }
        }
        "LABEL" => {
            let labels = config.labels.get_or_insert_default();
            labels.extend(pairs(rest, word)?);
        }
        "EXPOSE" => expose(config, rest)?,
        "VOLUME" => volumes(config, rest)?,
        "HEALTHCHECK" => config.healthcheck = Some(health(rest)?),
        "ONBUILD" => on_build(config, rest)?,
        "STOPSIGNAL" => {
            crate::signal::parse(rest)?;
            config.stop_signal = Some(rest.to_owned());
        }
        "USER" => rest.clone_into(&mut config.user),
        _ => config.working_dir = joined(&config.working_dir, rest),
    }
    Ok(())
}

/// A command in exec form, or else in shell form.
fn command(config: &ContainerDefaults, text: &str) -> Vec<String> {
    list(text).unwrap_or_else(|| {
        let shell = config.shell.clone().filter(|shell| !shell.is_empty());
        let mut words = shell.unwrap_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned()]);
        words.push(text.to_owned());
        words
    })
}

fn list(text: &str) -> Option<Vec<String>> {
    serde_json::from_str(text).ok()
}

fn set_variable(env: &mut Vec<String>, name: &str, value: &str) {
    let variable = format!("{name}={value}");
    let same = |other: &&mut String| other.split('=').next() == Some(name);
    match env.iter_mut().find(same) {
        Some(other) => *other = variable,
        None => env.push(variable),
    }
}

fn expose(config: &mut ContainerDefaults, rest: &str) -> Result<()> {
    for port in rest.split_whitespace() {
        let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
        let protocol = protocol.to_ascii_lowercase();
        let known = ["tcp", "udp", "sctp"].contains(&protocol.as_str());
        let (first, last) = number.split_once('-').unwrap_or((number, number));
        let range = first.parse::<u16>().ok().zip(last.parse::<u16>().ok());
        let range = range.filter(|(first, last)| known && *first > 0 && first <= last);
        let Some((first, last)) = range else {
            return Err(Error::invalid(format!("invalid containerPort: {port}")));
        };
        let ports = config.exposed_ports.get_or_insert_default();
        for number in first..=last {
            ports.insert(format!("{number}/{protocol}"), serde_json::json!({}));
        }
    }
    Ok(())
}

fn volumes(config: &mut ContainerDefaults, rest: &str) -> Result<()> {
    let paths = list(rest).unwrap_or_else(|| words(rest));
    for path in paths {
        let path = path.trim();
        if path.is_empty() {
            return Err(Error::invalid(
                "VOLUME specified can not be an empty string",
            ));
        }
        config
            .volumes
            .get_or_insert_default()
            .insert(path.to_owned(), serde_json::json!({}));
    }
    Ok(())
}

fn on_build(config: &mut ContainerDefaults, rest: &str) -> Result<()> {
    let trigger = rest.split_whitespace().next().unwrap_or_default();
    match trigger.to_ascii_uppercase().as_str() {
        "ONBUILD" => Err(Error::invalid(
            "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed",
        )),
        "MAINTAINER" | "FROM" => Err(Error::invalid(format!(
            "{trigger} isn't allowed as an ONBUILD trigger"
        ))),
        _ => {
            config
                .on_build
                .get_or_insert_default()
                .push(rest.to_owned());
            Ok(())
        }
    }
}

/// `WORKDIR`: a relative path continues the one before.
fn joined(before: &str, path: &str) -> String {
    let whole = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{before}/{path}")
    };
    let mut parts = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// `[--interval=30s ...] CMD command` or `NONE`.
fn health(rest: &str) -> Result<Healthcheck> {
    let mut check = Healthcheck::default();
    let mut rest = rest;
    while let Some(flag) = rest.strip_prefix("--") {
        let (flag, behind) = flag.split_once(char::is_whitespace).unwrap_or((flag, ""));
        set_health(&mut check, flag)?;
        rest = behind.trim_start();
    }
    let (kind, command) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let command = command.trim();
    check.test = Some(match kind.to_ascii_uppercase().as_str() {
        "NONE" if command.is_empty() => vec!["NONE".to_owned()],
        "NONE" => return Err(Error::invalid("HEALTHCHECK NONE takes no arguments")),
        "CMD" if command.is_empty() => {
            return Err(Error::invalid("Missing command after HEALTHCHECK CMD"));
        }
        "CMD" => match list(command) {
            Some(words) => std::iter::once("CMD".to_owned()).chain(words).collect(),
            None => vec!["CMD-SHELL".to_owned(), command.to_owned()],
        },
        _ => {
            return Err(Error::invalid(format!(
                "Unknown type {kind:?} in HEALTHCHECK (try CMD)"
            )));
        }
    });
    Ok(check)
}

fn set_health(check: &mut Healthcheck, flag: &str) -> Result<()> {
    let (name, value) = flag.split_once('=').unwrap_or((flag, ""));
    let duration = || {
        duration(value)
            .ok_or_else(|| Error::invalid(format!("time: invalid duration {value:?} of --{name}")))
    };
    match name {
        "interval" => check.interval = duration()?,
        "timeout" => check.timeout = duration()?,
        "start-period" => check.start_period = duration()?,
        "start-interval" => check.start_interval = duration()?,
        "retries" => {
            let retries = value.parse().ok().filter(|retries| *retries >= 0);
            check.retries = retries.ok_or_else(|| {
                Error::invalid(format!("--retries must be a number, not {value:?}"))
            })?;
        }
        _ => return Err(Error::invalid(format!("unknown flag: {name}"))),
    }
    Ok(())
}

/// Go's durations, such as `1m30s`, in nanoseconds.
fn duration(text: &str) -> Option<i64> {
    const UNITS: [(&str, f64); 7] = [
        ("ns", 1.0),
        ("us", 1e3),
        ("\u{b5}s", 1e3),
        ("ms", 1e6),
        ("s", 1e9),
        ("m", 60e9),
        ("h", 3600e9),
    ];
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        let behind = &rest[end..];
        let unit_end = behind
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(behind.len());
        let (unit, next) = behind.split_at(unit_end);
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit)?;
        total += number * factor;
        rest = next;
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the float is in the range of the integer"
    )]
    (!text.is_empty() && total < 9e18).then_some(total as i64)
}

/// `name=value` pairs, or `name value` where the first word has no `=`.
fn pairs(text: &str, word: &str) -> Result<BTreeMap<String, String>> {
    let all = words(text);
    let first = all.first().map(String::as_str).unwrap_or_default();
    if !first.contains('=') {
        let (name, value) = text
            .split_once(char::is_whitespace)
            .ok_or_else(|| Error::invalid(format!("{word} must have two arguments")))?;
        return Ok(BTreeMap::from([(
            name.to_owned(),
            value.trim_start().to_owned(),
        )]));
    }
    let mut pairs = BTreeMap::new();
    for pair in all {
        let Some((name, value)) = pair.split_once('=') else {
            return Err(Error::invalid(format!(
                "Syntax error - can't find = in {pair:?}. Must be of the form: name=value"
            )));
        };
        if name.is_empty() {
            return Err(Error::invalid(format!("{word} names can not be blank")));
        }
        pairs.insert(name.to_owned(), value.to_owned());
    }
    Ok(pairs)
}

/// Words with quotes and backslashes taken away, as a Dockerfile has them.
fn words(text: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (Some(open), _) if open == character => quote = None,
            (Some('\''), _) => word.get_or_insert_default().push(character),
            (_, '\\') => word.get_or_insert_default().extend(characters.next()),
            (None, '\'' | '"') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None, _) if character.is_whitespace() => all.extend(word.take()),
            _ => word.get_or_insert_default().push(character),
        }
    }
    all.extend(word);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(changes: &[&str]) -> Result<ContainerDefaults> {
        let mut config = ContainerDefaults {
            cmd: Some(vec!["old".into()]),
            env: Some(vec!["A=1".into(), "AB=2".into()]),
            working_dir: "/srv".into(),
            ..ContainerDefaults::default()
        };
        let changes: Vec<String> = changes.iter().map(|&change| change.to_owned()).collect();
        apply(&mut config, &changes).map(|()| config)
    }

    #[test]
    fn changes_are_applied() {
        let config = applied(&[
            r#"CMD ["a","b"]"#,
            "ENTRYPOINT run it",
            r#"ENV A=b C="d e" F=g\ h"#,
            "ENV LEGACY some words",
            "expose 80 81/UDP 90-91",
            "LABEL x=y",
            "USER 7",
            "WORKDIR sub/../w",
            r#"VOLUME ["/a b"]"#,
            "VOLUME /c /d",
            "STOPSIGNAL SIGTERM",
            "ONBUILD RUN x",
            "HEALTHCHECK --interval=1m30s --retries=3 CMD true",
        ])
        .unwrap();
        assert_eq!(config.cmd.unwrap(), ["a", "b"]);
        assert_eq!(config.entrypoint.unwrap(), ["/bin/sh", "-c", "run it"]);
        let env = ["A=b", "AB=2", "C=d e", "F=g h", "LEGACY=some words"];
        assert_eq!(config.env.unwrap(), env);
        let ports = config.exposed_ports.unwrap();
        let ports: Vec<&str> = ports.keys().map(String::as_str).collect();
        assert_eq!(ports, ["80/tcp", "81/udp", "90/tcp", "91/tcp"]);
        assert_eq!(config.working_dir, "/srv/w");
        let volumes = config.volumes.unwrap();
        assert_eq!(volumes.keys().collect::<Vec<_>>(), ["/a b", "/c", "/d"]);
        let check = config.healthcheck.unwrap();
        assert_eq!((check.interval, check.retries), (90_000_000_000, 3));
        assert_eq!(check.test.unwrap(), ["CMD-SHELL", "true"]);
        assert_eq!(config.on_build.unwrap(), ["RUN x"]);
    }

    #[test]
    fn an_entry_point_alone_drops_the_command() {
        let config = applied(&[r#"ENTRYPOINT ["e"]"#]).unwrap();
        assert_eq!((config.entrypoint.unwrap().len(), config.cmd), (1, None));
    }

    #[test]
    fn wrong_ones_are_refused_in_dockers_words() {
        for (change, message) in [
            ("RUN x", "RUN is not a valid change command"),
            ("FOO x", "FOO is not a valid change command"),
            ("ENV", "ENV requires at least one argument"),
            ("ENV A", "ENV must have two arguments"),
            (
                "ENV A=b c",
                "Syntax error - can't find = in \"c\". Must be of the form: name=value",
            ),
            ("USER", "USER requires exactly one argument"),
            ("EXPOSE x", "invalid containerPort: x"),
            ("EXPOSE 9-8", "invalid containerPort: 9-8"),
            ("HEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD"),
            ("ONBUILD FROM x", "FROM isn't allowed as an ONBUILD trigger"),
        ] {
            let error = applied(&[change]).unwrap_err();
            assert_eq!(error.message(), message, "{change}");
        }
    }
}

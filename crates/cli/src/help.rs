//! Help in Docker's layout.

use crate::args::{Flag, Kind, Verb, usage_line};
use crate::failure::Failure;
use crate::output;
use crate::terminal;
use crate::tree::{self, Entry, Group};

/// The narrowest terminal that text is still wrapped for.
const NARROW: usize = 60;

/// `gorae VERB --help`.
pub(crate) fn verb(verb: &Verb, path: &str) -> anyhow::Result<()> {
    let mut out = format!("Usage:  {}\n\n{}\n", usage_line(verb, path), verb.about);
    let flags: Vec<&Flag> = verb.flags().filter(|flag| !flag.hidden).collect();
    if !flags.is_empty() {
        out.push_str("\nOptions:\n");
        out.push_str(&options(flags, terminal::width()));
    }
    if !verb.examples.is_empty() {
        out.push_str("\nExamples:\n");
        for (command, does) in verb.examples {
            out.push_str(&format!("  # {does}\n  gorae {command}\n"));
        }
    }
    output::raw(out.as_bytes())?;
    Ok(())
}

fn options(mut flags: Vec<&Flag>, width: usize) -> String {
    flags.sort_by_key(|flag| flag.long);
    let heads: Vec<String> = flags.iter().map(|flag| head(flag)).collect();
    let column = heads.iter().map(String::len).max().unwrap_or(0) + 3;
    let room = width.max(NARROW).saturating_sub(column).max(24);
    let mut out = String::new();
    for (flag, head) in flags.iter().zip(&heads) {
        let mut text = flag.help.to_owned();
        if flag.kind == Kind::SwitchOn {
            text.push_str(" (default true)");
        } else if !flag.default.is_empty() {
            text.push_str(&format!(" (default {})", flag.default));
        }
        let lines: Vec<String> = text.split('\n').flat_map(|line| wrap(line, room)).collect();
        for (index, line) in lines.iter().enumerate() {
            let left = if index == 0 { head.as_str() } else { "" };
            out.push_str(&format!("{left:column$}{line}\n"));
        }
    }
    out
}

/// `  -e, --env list`.
fn head(flag: &Flag) -> String {
    let short = flag
        .short
        .map_or_else(|| "    ".to_owned(), |short| format!("-{short}, "));
    let value = if flag.value.is_empty() {
        String::new()
    } else {
        format!(" {}", flag.value)
    };
    format!("  {short}--{}{value}", flag.long)
}

/// Lines of at most `width` characters, broken at spaces.
fn wrap(text: &str, width: usize) -> Vec<String> {
    if text.chars().count() <= width {
        return vec![text.to_owned()];
    }
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.len() - 1;
        let line = &mut lines[last];
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

fn table(title: &str, rows: &[(&str, &str)]) -> String {
    let column = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + 2;
    let mut out = format!("\n{title}:\n");
    for (name, about) in rows {
        let about = about.lines().next().unwrap_or_default();
        out.push_str(&format!("  {name:column$}{about}\n"));
    }
    out
}

fn rows(entries: &'static [Entry]) -> Vec<(&'static str, &'static str)> {
    entries
        .iter()
        .map(|entry| (entry.name, entry.verb.about))
        .collect()
}

/// `gorae` and `gorae --help`.
pub(crate) fn root() -> anyhow::Result<()> {
    let groups: Vec<(&str, &str)> = tree::GROUPS
        .iter()
        .map(|group| (group.name, group.about))
        .collect();
    let mut out = String::from(
        "Usage:  gorae [OPTIONS] COMMAND\n\nA container platform in one small engine\n",
    );
    out.push_str(&table("Common Commands", &rows(tree::COMMON)));
    out.push_str(&table("Management Commands", &groups));
    out.push_str(&table("Commands", &rows(tree::COMMANDS)));
    out.push_str(
        "\nGlobal Options:\n\
         \x20     --config string      Folder of the client's configuration (default \"~/.docker\")\n\
         \x20 -D, --debug              Enable debug mode\n\
         \x20 -H, --host string        Engine to connect to (default \"unix:///run/gorae/gorae.sock\";\n\
         \x20                          also from GORAE_HOST and DOCKER_HOST)\n\
         \x20 -l, --log-level string   Set the logging level (\"debug\", \"info\", \"warn\", \"error\")\n\
         \x20     --tls                Use TLS; implied by --tlsverify\n\
         \x20     --tlscacert string   Trust engines with a certificate of this authority (default \"~/.docker/ca.pem\")\n\
         \x20     --tlscert string     Certificate to show (default \"~/.docker/cert.pem\")\n\
         \x20     --tlskey string      Private key of the certificate (default \"~/.docker/key.pem\")\n\
         \x20     --tlsverify          Use TLS and verify the engine\n\
         \x20 -v, --version            Print version information and quit\n\
         \nExamples:\n\
         \x20 # Run a shell in a container, and remove the container at its end\n\
         \x20 gorae run -it --rm busybox\n\
         \x20 # Serve a page at port 8080 of this machine\n\
         \x20 gorae run -d -p 8080:80 --name web gorae/hello serve\n\
         \x20 # See what runs\n\
         \x20 gorae ps\n\
         \nRun 'gorae COMMAND --help' for more information on a command.\n",
    );
    output::raw(out.as_bytes())?;
    Ok(())
}

/// `gorae GROUP` and `gorae GROUP --help`.
pub(crate) fn group(group: &'static Group) -> anyhow::Result<()> {
    let mut out = format!("Usage:  gorae {} COMMAND\n\n{}\n", group.name, group.about);
    out.push_str(&table("Commands", &rows(group.entries)));
    out.push_str(&format!(
        "\nRun 'gorae {} COMMAND --help' for more information on a command.\n",
        group.name
    ));
    output::raw(out.as_bytes())?;
    Ok(())
}

/// A word that names no verb, with the nearest ones that do.
pub(crate) fn unknown(path: &str, group: Option<&'static Group>) -> Failure {
    let word = path.rsplit(' ').next().unwrap_or(path);
    let names: Vec<&str> = match group {
        Some(group) => group.entries.iter().map(|entry| entry.name).collect(),
        None => {
            let verbs = tree::COMMON
                .iter()
                .chain(tree::COMMANDS)
                .map(|entry| entry.name);
            verbs
                .chain(tree::GROUPS.iter().map(|group| group.name))
                .collect()
        }
    };
    let near: Vec<&str> = names
        .into_iter()
        .filter(|name| is_near(word, name))
        .collect();
    let mut message = format!("gorae: unknown command: gorae {path}\n");
    if !near.is_empty() {
        message.push_str(&format!("\nDid you mean this?\n\t{}\n", near.join("\n\t")));
    }
    let help = group.map_or_else(String::new, |group| format!("{} ", group.name));
    message.push_str(&format!("\nRun 'gorae {help}--help' for more information"));
    Failure::message(message)
}

/// Whether a word may be a slip for the other: one letter wrong, two changed places, or two wrong in a long one.
fn is_near(word: &str, name: &str) -> bool {
    let letters = |text: &str| {
        let mut letters: Vec<char> = text.chars().collect();
        letters.sort_unstable();
        letters
    };
    match distance(word, name) {
        0 | 1 => true,
        2 => name.len() > 5 || letters(word) == letters(name),
        _ => false,
    }
}

/// How many letters differ between two words.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = (diagonal + usize::from(x != *y))
                .min(above + 1)
                .min(row[j] + 1);
            diagonal = above;
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrapping() {
        assert_eq!(wrap("a b", 10), ["a b"]);
        assert_eq!(wrap("aaa bbb ccc", 7), ["aaa bbb", "ccc"]);
    }

    #[test]
    fn near_words() {
        assert_eq!(distance("rnu", "run"), 2);
        assert!(is_near("rnu", "run") && is_near("imags", "images") && !is_near("foo", "top"));
        let message = unknown("contaner", None).to_string();
        assert!(
            message.contains("Did you mean this?\n\tcontainer"),
            "{message}"
        );
    }
}

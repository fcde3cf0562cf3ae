//! `gorae completion`.

use crate::args::{Call, Operands, Verb};
use crate::failure::Failure;
use crate::{output, tree};
use clap::Command;
use clap_complete::{Shell, generate};

pub(crate) static VERB: Verb = Verb {
    about: "Generate the autocompletion script for the specified shell",
    usage: "bash|zsh|fish",
    operands: Operands::between(1, 1),
    flags: &[],
    examples: &[(
        "completion bash > /etc/bash_completion.d/gorae",
        "Complete words in every new bash",
    )],
    run: |call| Box::pin(run(call)),
};

async fn run(call: &Call) -> anyhow::Result<u8> {
    let shell = match call.operands[0].as_str() {
        "bash" => Shell::Bash,
        "zsh" => Shell::Zsh,
        "fish" => Shell::Fish,
        other => {
            return Err(Failure::message(format!(
                "unknown shell: {other}\n\nChoose bash, zsh or fish."
            ))
            .into());
        }
    };
    let mut script = Vec::new();
    generate(shell, &mut whole(), "gorae", &mut script);
    output::raw(&script)?;
    Ok(0)
}

/// The whole tree as clap knows it.
fn whole() -> Command {
    let verbs = tree::COMMON.iter().chain(tree::COMMANDS);
    let groups = tree::GROUPS.iter().map(|group| {
        let entries = group
            .entries
            .iter()
            .map(|entry| entry.verb.to_command(entry.name));
        Command::new(group.name)
            .about(group.about)
            .subcommands(entries)
    });
    Command::new("gorae")
        .about("A container platform in one small engine")
        .disable_help_subcommand(true)
        .subcommands(verbs.map(|entry| entry.verb.to_command(entry.name)))
        .subcommands(groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_holds_together() {
        whole().debug_assert();
        let mut script = Vec::new();
        generate(Shell::Bash, &mut whole(), "gorae", &mut script);
        assert!(String::from_utf8(script).unwrap().contains("--publish-all"));
    }
}

//! From nodes to stages of typed instructions.

use super::flags::{Flags, Kind};
use super::{
    Action, Argument, Command, CommandLine, Device, Healthcheck, InlineFile, InstructionError,
    Network, Pair, Run, ShellFile, Stage, Transfer, mount,
};
use crate::error::{DockerfileError, Reason};
use crate::gofmt::{parse_bool, parse_duration};
use crate::lint::{Linter, Rule};
use crate::suggest;
use crate::syntax::{Document, Node, chomp, fields, is_blank, parse_heredoc};

const NAMES: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

type Parse<T> = Result<T, InstructionError>;

/// A file's stages, and the arguments before the first of them.
#[derive(Clone, Debug, Default)]
pub struct Parsed {
    /// The stages.
    pub stages: Vec<Stage>,
    /// The instructions before the first stage: `ARG` alone.
    pub globals: Vec<Command>,
}

/// Reads a document's instructions.
///
/// # Errors
/// When an instruction is unknown or malformed, or stands before the first stage.
pub fn parse(document: &Document, lint: &mut Linter) -> Result<Parsed, DockerfileError> {
    let mut parsed = Parsed::default();
    for node in &document.nodes {
        let located = |e: InstructionError| {
            DockerfileError::at(
                Reason::Instruction {
                    line: node.span.start,
                    error: e,
                },
                node.span,
            )
        };
        let mut lint = lint.within(&node.comments);
        if node.name.eq_ignore_ascii_case("from") {
            parsed.stages.push(from(node, &mut lint).map_err(located)?);
            continue;
        }
        let command = command(node, &mut lint).map_err(located)?;
        match (parsed.stages.last_mut(), &command.action) {
            (Some(stage), _) => stage.commands.push(command),
            (None, Action::Arg(_)) => parsed.globals.push(command),
            (None, _) => return Err(DockerfileError::at(Reason::NoStage, node.span)),
        }
    }
    Ok(parsed)
}

/// Reads an instruction of a stage that stands alone, as triggers do.
pub(crate) fn parse_command(node: &Node) -> Parse<Command> {
    if node.name.eq_ignore_ascii_case("from") {
        return Err(InstructionError::Trigger("FROM".to_owned()));
    }
    command(node, &mut Linter::silent())
}

fn command(node: &Node, lint: &mut Linter) -> Parse<Command> {
    let name = node.name.to_ascii_uppercase();
    let action = match name.as_str() {
        "ADD" => Action::Add(add(node)?),
        "ARG" => Action::Arg(arg(node, lint)?),
        "CMD" => Action::Cmd(line(node)?),
        "COPY" => Action::Copy(copy(node)?),
        "ENTRYPOINT" => Action::Entrypoint(line(node)?),
        "ENV" => Action::Env(pairs(node, "ENV")?),
        "EXPOSE" => Action::Expose(expose(node)?),
        "HEALTHCHECK" => Action::Healthcheck(healthcheck(node)?),
        "LABEL" => Action::Label(pairs(node, "LABEL")?),
        "MAINTAINER" => {
            let who = exactly_one(node, "MAINTAINER")?;
            lint.warn(Rule::MaintainerDeprecated, node.span, &[]);
            Action::Maintainer(who)
        }
        "ONBUILD" => Action::Onbuild(onbuild(node)?),
        "RUN" => Action::Run(Box::new(run(node)?)),
        "SHELL" => Action::Shell(shell(node)?),
        "STOPSIGNAL" => Action::StopSignal(exactly_one(node, "STOPSIGNAL")?),
        "USER" => Action::User(exactly_one(node, "USER")?),
        "VOLUME" => Action::Volume(volume(node)?),
        "WORKDIR" => Action::Workdir(exactly_one(node, "WORKDIR")?),
        _ => {
            let hint = suggest::suffix(suggest::nearest_any_case(&node.name, &NAMES));
            return Err(InstructionError::Unknown {
                name: node.name.clone(),
                hint,
            });
        }
    };
    Ok(Command {
        action,
        name: node.name.clone(),
        code: node.original.trim().to_owned(),
        span: node.span,
        comments: node.comments.clone(),
    })
}

fn no_flags(node: &Node) -> Parse<()> {
    Flags::parse(&node.flags, &[])?;
    Ok(())
}

fn exactly_one(node: &Node, name: &'static str) -> Parse<String> {
    let [one] = node.args.as_slice() else {
        return Err(InstructionError::ExactlyOne(name));
    };
    no_flags(node)?;
    Ok(one.clone())
}

fn pairs(node: &Node, name: &'static str) -> Parse<Vec<Pair>> {
    no_flags(node)?;
    if node.args.is_empty() {
        return Err(InstructionError::AtLeastOne(name));
    }
    let pair = |chunk: &[String]| match chunk {
        [key, ..] if key.is_empty() => Err(InstructionError::BlankName(name)),
        [key, value, separator] => Ok(Pair {
            key: key.clone(),
            value: value.clone(),
            legacy: separator.is_empty(),
        }),
        _ => Err(InstructionError::AtLeastOne(name)),
    };
    node.args.chunks(3).map(pair).collect()
}

fn from(node: &Node, lint: &mut Linter) -> Parse<Stage> {
    let (base, name) = stage_name(node, lint)?;
    let flags = Flags::parse(&node.flags, &[("platform", Kind::Text)])?;
    describes(node, lint, "FROM", &[name.as_str()]);
    Ok(Stage {
        description: description(&node.comments, &name),
        name,
        base,
        platform: flags.text("platform"),
        code: node.original.trim().to_owned(),
        keyword: node.name.clone(),
        span: node.span,
        comments: node.comments.clone(),
        commands: Vec::new(),
    })
}

fn stage_name(node: &Node, lint: &mut Linter) -> Parse<(String, String)> {
    if let [_, _, name] = node.args.as_slice()
        && *name != name.to_lowercase()
    {
        lint.warn(Rule::StageNameCasing, node.span, &[name]);
    }
    if let Some(keyword) = node.args.get(1) {
        let upper = node.name == node.name.to_uppercase() && *keyword != keyword.to_uppercase();
        let lower = node.name == node.name.to_lowercase() && *keyword != keyword.to_lowercase();
        if upper || lower {
            lint.warn(Rule::FromAsCasing, node.span, &[keyword, &node.name]);
        }
    }
    match node.args.as_slice() {
        [base] => Ok((base.clone(), String::new())),
        [base, keyword, name] if keyword.eq_ignore_ascii_case("as") => {
            let lower = name.to_lowercase();
            let first = lower.starts_with(|c: char| c.is_ascii_lowercase());
            let rest = lower
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
            if !first || !rest {
                return Err(InstructionError::StageName(name.clone()));
            }
            Ok((base.clone(), lower))
        }
        _ => Err(InstructionError::FromArguments),
    }
}

/// What the comments say of a name: the first that begins with it.
fn description(comments: &[String], name: &str) -> String {
    if name.is_empty() {
        return String::new();
    }
    let said = comments
        .iter()
        .find_map(|c| c.strip_prefix(name)?.strip_prefix(' '));
    said.unwrap_or_default().to_owned()
}

/// Warns of a comment right before a definition that does not begin with the defined name.
fn describes(node: &Node, lint: &mut Linter, instruction: &str, names: &[&str]) {
    let Some(comment) = node.comments.last() else {
        return;
    };
    let first = comment.split(' ').next().unwrap_or_default();
    let [name, rest @ ..] = names else { return };
    if name.is_empty() || names.contains(&first) {
        return;
    }
    let example = if rest.is_empty() { *name } else { "<arg_key>" };
    lint.warn(
        Rule::InvalidDefinitionDescription,
        node.span,
        &[instruction, example],
    );
}

fn arg(node: &Node, lint: &mut Linter) -> Parse<Vec<Argument>> {
    if node.args.is_empty() {
        return Err(InstructionError::AtLeastOne("ARG"));
    }
    let one = |text: &String| {
        let (key, value) = match text.split_once('=') {
            Some(("", _)) => return Err(InstructionError::BlankName("ARG")),
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (text.as_str(), None),
        };
        let comment = description(&node.comments, key);
        Ok(Argument {
            key: key.to_owned(),
            value,
            comment,
        })
    };
    let found: Vec<Argument> = node.args.iter().map(one).collect::<Parse<_>>()?;
    let names: Vec<&str> = found.iter().map(|a| a.key.as_str()).collect();
    describes(node, lint, "ARG", &names);
    Ok(found)
}

fn add(node: &Node) -> Parse<Transfer> {
    let mut transfer = paths(node, "ADD")?;
    let flags = Flags::parse(
        &node.flags,
        &[
            ("exclude", Kind::Texts),
            ("chown", Kind::Text),
            ("chmod", Kind::Text),
            ("link", Kind::Switch),
            ("keep-git-dir", Kind::Switch),
            ("checksum", Kind::Text),
            ("unpack", Kind::Switch),
        ],
    )?;
    transfer.checksum = flags.text("checksum");
    transfer.keep_git_dir = flags.switch("keep-git-dir");
    transfer.unpack = flags.switch("unpack");
    common(&mut transfer, &flags);
    Ok(transfer)
}

fn copy(node: &Node) -> Parse<Transfer> {
    let mut transfer = paths(node, "COPY")?;
    let flags = Flags::parse(
        &node.flags,
        &[
            ("chown", Kind::Text),
            ("from", Kind::Text),
            ("chmod", Kind::Text),
            ("link", Kind::Switch),
            ("parents", Kind::Switch),
            ("exclude", Kind::Texts),
        ],
    )?;
    transfer.from = flags.text("from");
    transfer.parents = flags.switch("parents").unwrap_or(false);
    common(&mut transfer, &flags);
    Ok(transfer)
}

fn common(transfer: &mut Transfer, flags: &Flags<'_>) {
    transfer.chown = flags.text("chown");
    transfer.chmod = flags.text("chmod");
    transfer.link = flags.switch("link").unwrap_or(false);
    transfer.exclude = flags.texts("exclude").collect();
}

fn paths(node: &Node, name: &'static str) -> Parse<Transfer> {
    let [sources @ .., destination] = node.args.as_slice() else {
        return Err(InstructionError::NoDestination(name));
    };
    if sources.is_empty() {
        return Err(InstructionError::NoDestination(name));
    }
    let heredoc = |word: &str| parse_heredoc(word).ok().flatten();
    if heredoc(destination).is_some() {
        return Err(InstructionError::HeredocDestination(name));
    }
    let mut transfer = Transfer {
        destination: destination.clone(),
        ..Transfer::default()
    };
    for source in sources {
        let Some(announced) = heredoc(source) else {
            transfer.sources.push(source.clone());
            continue;
        };
        // of two documents of one name the last one counts
        let found = node.heredocs.iter().rfind(|h| h.name == announced.name);
        let content = found.map_or("", |h| &h.content);
        let data = if announced.chomp {
            chomp(content)
        } else {
            content.to_owned()
        };
        transfer.inline.push(InlineFile {
            name: announced.name,
            data,
            expand: announced.expand,
        });
    }
    Ok(transfer)
}

fn line(node: &Node) -> Parse<CommandLine> {
    no_flags(node)?;
    Ok(command_line(node))
}

/// A shell's line is one word.
fn command_line(node: &Node) -> CommandLine {
    let words = if node.json || node.args.is_empty() {
        node.args.clone()
    } else {
        vec![node.args.join(" ")]
    };
    CommandLine {
        words,
        shell: !node.json,
    }
}

fn run(node: &Node) -> Parse<Run> {
    let flags = Flags::parse(
        &node.flags,
        &[
            ("mount", Kind::Texts),
            ("network", Kind::Text),
            ("security", Kind::Text),
            ("device", Kind::Texts),
        ],
    )?;
    let file = |h: &crate::syntax::Heredoc| ShellFile {
        name: h.name.clone(),
        data: h.content.clone(),
        chomp: h.chomp,
    };
    let mounts: Vec<String> = flags.texts("mount").collect();
    Ok(Run {
        line: command_line(node),
        files: node.heredocs.iter().map(file).collect(),
        mount_sources: mounts
            .iter()
            .map(|m| mount::source(m))
            .collect::<Result<_, _>>()?,
        mounts,
        network: match flags.text("network").to_lowercase().as_str() {
            "" | "default" => Network::Default,
            "none" => Network::None,
            "host" => Network::Host,
            _ => return Err(InstructionError::Network(flags.text("network"))),
        },
        insecure: match flags.text("security").to_lowercase().as_str() {
            "" | "sandbox" => false,
            "insecure" => true,
            _ => return Err(InstructionError::Security(flags.text("security"))),
        },
        devices: flags
            .texts("device")
            .map(|d| device(&d))
            .collect::<Parse<_>>()?,
    })
}

fn device(text: &str) -> Parse<Device> {
    let wrong = || InstructionError::Device(text.to_owned());
    let mut device = Device {
        name: String::new(),
        required: false,
    };
    for field in fields(text).ok_or_else(wrong)? {
        match field.split_once('=') {
            Some(("name", value)) => value.clone_into(&mut device.name),
            Some(("required", value)) => device.required = parse_bool(value).ok_or_else(wrong)?,
            None if field == "required" => device.required = true,
            // a device may be named `vendor/class=name` without `name=`
            _ if device.name.is_empty() => device.name = field,
            _ => return Err(wrong()),
        }
    }
    if device.name.is_empty() {
        return Err(wrong());
    }
    Ok(device)
}

fn onbuild(node: &Node) -> Parse<String> {
    let Some(name) = node.args.first() else {
        return Err(InstructionError::AtLeastOne("ONBUILD"));
    };
    no_flags(node)?;
    match name.to_ascii_uppercase().as_str() {
        "ONBUILD" => return Err(InstructionError::ChainedOnbuild),
        name @ ("MAINTAINER" | "FROM") => return Err(InstructionError::Trigger(name.to_owned())),
        _ => {}
    }
    let line = node.original.trim_start();
    let rest = line.get(node.name.len()..).unwrap_or_default();
    let mut expression = rest
        .trim_start_matches(|c: char| is_blank(c) || c == '\n')
        .to_owned();
    for heredoc in &node.heredocs {
        expression.push('\n');
        expression.push_str(&heredoc.content);
        expression.push_str(&heredoc.name);
    }
    Ok(expression)
}

fn expose(node: &Node) -> Parse<Vec<String>> {
    if node.args.is_empty() {
        return Err(InstructionError::AtLeastOne("EXPOSE"));
    }
    no_flags(node)?;
    let mut ports = node.args.clone();
    ports.sort();
    Ok(ports)
}

fn volume(node: &Node) -> Parse<Vec<String>> {
    if node.args.is_empty() {
        return Err(InstructionError::AtLeastOne("VOLUME"));
    }
    no_flags(node)?;
    let trimmed: Vec<String> = node.args.iter().map(|v| v.trim().to_owned()).collect();
    if trimmed.iter().any(String::is_empty) {
        return Err(InstructionError::EmptyVolume);
    }
    Ok(trimmed)
}

fn shell(node: &Node) -> Parse<Vec<String>> {
    no_flags(node)?;
    if node.args.is_empty() {
        return Err(InstructionError::AtLeastOne("SHELL"));
    }
    if !node.json {
        return Err(InstructionError::NotJson("SHELL"));
    }
    Ok(node.args.clone())
}

fn healthcheck(node: &Node) -> Parse<Healthcheck> {
    let [kind, args @ ..] = node.args.as_slice() else {
        return Err(InstructionError::AtLeastOne("HEALTHCHECK"));
    };
    let kind = kind.to_uppercase();
    if kind == "NONE" {
        if !args.is_empty() {
            return Err(InstructionError::HealthcheckNone);
        }
        return Ok(Healthcheck {
            test: vec![kind],
            ..Healthcheck::default()
        });
    }
    let flags = Flags::parse(
        &node.flags,
        &[
            ("interval", Kind::Text),
            ("timeout", Kind::Text),
            ("start-period", Kind::Text),
            ("start-interval", Kind::Text),
            ("retries", Kind::Text),
        ],
    )?;
    if kind != "CMD" {
        return Err(InstructionError::HealthcheckType(kind));
    }
    if args.is_empty() {
        return Err(InstructionError::HealthcheckCommand);
    }
    let mut test = vec![if node.json { "CMD" } else { "CMD-SHELL" }.to_owned()];
    test.extend_from_slice(args);
    Ok(Healthcheck {
        test,
        interval: interval(&flags, "interval")?,
        timeout: interval(&flags, "timeout")?,
        start_period: interval(&flags, "start-period")?,
        start_interval: interval(&flags, "start-interval")?,
        retries: retries(&flags.text("retries"))?,
    })
}

fn interval(flags: &Flags<'_>, name: &'static str) -> Parse<i64> {
    let text = flags.text(name);
    if text.is_empty() {
        return Ok(0);
    }
    match parse_duration(&text)? {
        0 => Ok(0),
        n if n < 1_000_000 => Err(InstructionError::Interval(name)),
        n => Ok(n),
    }
}

fn retries(text: &str) -> Parse<i64> {
    if text.is_empty() {
        return Ok(0);
    }
    let number: i32 = text
        .parse()
        .map_err(|_| InstructionError::Number(text.to_owned()))?;
    if number < 0 {
        return Err(InstructionError::Retries(number.into()));
    }
    Ok(number.into())
}

//! Runs a template.

use super::ast::{Base, Command, Node, Operand, Pipeline};
use super::print::{plain, quote};
use super::{TemplateError, funcs, position};
use serde_json::Value;

/// The most that one rendering may produce.
const LONGEST: usize = 256 << 20;

/// What a template is rendered for.
pub(crate) trait Root {
    /// The value of the dot.
    fn value(&self) -> Value;

    /// Calls a method that takes arguments, such as `.Label "key"`.
    fn method(&self, _name: &str, _arguments: &[Value]) -> Option<Value> {
        None
    }

    /// What stands for a field that the value lacks: nothing if the name is wrong.
    fn absent(&self, _name: &str) -> Option<Value> {
        None
    }

    /// The key of a field that a template knows by another name.
    fn key_of(&self, _name: &str) -> Option<&'static str> {
        None
    }

    /// What Go says of a field that does not exist.
    fn unknown(&self, name: &str) -> String {
        format!("map has no entry for key {}", quote(name))
    }
}

impl Root for Value {
    fn value(&self) -> Value {
        self.clone()
    }
}

enum Flow {
    On,
    Break,
    Continue,
}

struct Run<'a> {
    source: &'a str,
    root: &'a dyn Root,
    out: String,
    variables: Vec<(String, Value)>,
}

/// The dot of a scope.
#[derive(Clone, Copy)]
struct Dot<'v> {
    value: &'v Value,
    is_root: bool,
}

pub(super) fn render(
    source: &str,
    nodes: &[Node],
    root: &dyn Root,
) -> Result<String, TemplateError> {
    let value = root.value();
    let variables = vec![(String::new(), value.clone())];
    let mut run = Run {
        source,
        root,
        out: String::new(),
        variables,
    };
    run.nodes(
        nodes,
        Dot {
            value: &value,
            is_root: true,
        },
    )?;
    Ok(run.out)
}

/// Whether Go takes a value for true.
pub(super) fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(on) => *on,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

impl Run<'_> {
    fn fail(&self, operand: &Operand, what: &str) -> TemplateError {
        self.fail_at(operand.at, operand.span, what)
    }

    fn fail_at(&self, at: usize, span: (usize, usize), what: &str) -> TemplateError {
        let text = &self.source[span.0..span.1];
        let position = position(self.source, at);
        TemplateError(format!(
            "template: :{position}: executing \"\" at <{text}>: {what}"
        ))
    }

    fn nodes(&mut self, nodes: &[Node], dot: Dot<'_>) -> Result<Flow, TemplateError> {
        let depth = self.variables.len();
        for node in nodes {
            match self.node(node, dot)? {
                Flow::On => {}
                flow => {
                    self.variables.truncate(depth);
                    return Ok(flow);
                }
            }
        }
        Ok(Flow::On)
    }

    fn node(&mut self, node: &Node, dot: Dot<'_>) -> Result<Flow, TemplateError> {
        match node {
            Node::Text(text) => self.out.push_str(text),
            Node::Output(pipeline) => {
                let value = self.pipeline(pipeline, dot)?;
                if pipeline.variables.is_empty() {
                    self.out.push_str(&shown(pipeline, &value));
                } else {
                    self.store(pipeline, value);
                }
            }
            Node::If {
                condition,
                body,
                otherwise,
            } => {
                let depth = self.variables.len();
                let value = self.pipeline(condition, dot)?;
                let branch = if truth(&value) { body } else { otherwise };
                self.store(condition, value);
                let flow = self.nodes(branch, dot)?;
                self.variables.truncate(depth);
                return Ok(flow);
            }
            Node::With {
                value,
                body,
                otherwise,
            } => {
                let depth = self.variables.len();
                let inner = self.pipeline(value, dot)?;
                self.store(value, inner.clone());
                let flow = if truth(&inner) {
                    self.nodes(
                        body,
                        Dot {
                            value: &inner,
                            is_root: false,
                        },
                    )?
                } else {
                    self.nodes(otherwise, dot)?
                };
                self.variables.truncate(depth);
                return Ok(flow);
            }
            Node::Range {
                over,
                body,
                otherwise,
            } => return self.range(over, body, otherwise, dot),
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        if self.out.len() > LONGEST {
            return Err(TemplateError("template: the output is too long".to_owned()));
        }
        Ok(Flow::On)
    }

    fn range(
        &mut self,
        over: &Pipeline,
        body: &[Node],
        otherwise: &[Node],
        dot: Dot<'_>,
    ) -> Result<Flow, TemplateError> {
        let value = self.pipeline(over, dot)?;
        let items: Vec<(Value, Value)> = match value {
            Value::Null => Vec::new(),
            Value::Array(items) => items
                .into_iter()
                .enumerate()
                .map(|(index, item)| (Value::from(index), item))
                .collect(),
            Value::Object(map) => {
                let mut entries: Vec<_> = map.into_iter().collect();
                entries.sort_by(|a, b| a.0.cmp(&b.0));
                entries
                    .into_iter()
                    .map(|(key, item)| (Value::String(key), item))
                    .collect()
            }
            Value::Number(number) if number.is_u64() => {
                let count = number.as_u64().unwrap_or(0).min(1 << 20);
                (0..count)
                    .map(|index| (Value::from(index), Value::from(index)))
                    .collect()
            }
            other => {
                let head = &over.commands[0].operands[0];
                return Err(self.fail(head, &format!("range can't iterate over {}", plain(&other))));
            }
        };
        if items.is_empty() {
            return self.nodes(otherwise, dot);
        }
        let depth = self.variables.len();
        for (key, item) in items {
            match over.variables.as_slice() {
                [one] => self.set(one, item.clone(), over.assigns),
                [first, second] => {
                    self.set(first, key, over.assigns);
                    self.set(second, item.clone(), over.assigns);
                }
                _ => {}
            }
            let flow = self.nodes(
                body,
                Dot {
                    value: &item,
                    is_root: false,
                },
            )?;
            self.variables.truncate(depth);
            if matches!(flow, Flow::Break) {
                break;
            }
        }
        Ok(Flow::On)
    }

    fn store(&mut self, pipeline: &Pipeline, value: Value) {
        if let Some(name) = pipeline.variables.first() {
            self.set(name, value, pipeline.assigns);
        }
    }

    fn set(&mut self, name: &str, value: Value, assigns: bool) {
        if assigns
            && let Some(slot) = self
                .variables
                .iter_mut()
                .rev()
                .find(|(known, _)| known == name)
        {
            slot.1 = value;
            return;
        }
        self.variables.push((name.to_owned(), value));
    }

    fn pipeline(&mut self, pipeline: &Pipeline, dot: Dot<'_>) -> Result<Value, TemplateError> {
        let mut value = None;
        for command in &pipeline.commands {
            value = Some(self.command(command, dot, value)?);
        }
        Ok(value.unwrap_or(Value::Null))
    }

    fn command(
        &mut self,
        command: &Command,
        dot: Dot<'_>,
        piped: Option<Value>,
    ) -> Result<Value, TemplateError> {
        let head = &command.operands[0];
        let rest = &command.operands[1..];
        if let Base::Function(name) = &head.base {
            return self.function(name, head, rest, dot, piped);
        }
        if rest.is_empty() && piped.is_none() {
            return self.operand(head, dot);
        }
        let mut arguments = self.operands(rest, dot)?;
        arguments.extend(piped);
        let root = matches!(head.base, Base::Dot) && dot.is_root
            || matches!(&head.base, Base::Variable(name) if name.is_empty());
        if let [method] = head.fields.as_slice() {
            if root && let Some(value) = self.root.method(method, &arguments) {
                return Ok(value);
            }
            let what = format!("{method} has arguments but cannot be invoked as function");
            return Err(self.fail(head, &what));
        }
        let text = &self.source[head.span.0..head.span.1];
        Err(self.fail(head, &format!("can't give argument to non-function {text}")))
    }

    fn operands(
        &mut self,
        operands: &[Operand],
        dot: Dot<'_>,
    ) -> Result<Vec<Value>, TemplateError> {
        operands
            .iter()
            .map(|operand| self.argument(operand, dot))
            .collect()
    }

    /// A function as an argument is called without arguments of its own.
    fn argument(&mut self, operand: &Operand, dot: Dot<'_>) -> Result<Value, TemplateError> {
        match &operand.base {
            Base::Function(name) => self.function(name, operand, &[], dot, None),
            _ => self.operand(operand, dot),
        }
    }

    fn function(
        &mut self,
        name: &str,
        head: &Operand,
        rest: &[Operand],
        dot: Dot<'_>,
        piped: Option<Value>,
    ) -> Result<Value, TemplateError> {
        if matches!(name, "and" | "or") {
            // these two evaluate only as far as they must
            let stop = name == "or";
            let mut last = None;
            for operand in rest {
                let value = self.argument(operand, dot)?;
                let decided = truth(&value) == stop;
                last = Some(value);
                if decided {
                    return Ok(last.unwrap_or(Value::Null));
                }
            }
            return piped.or(last).ok_or_else(|| {
                self.fail(
                    head,
                    &format!("wrong number of args for {name}: want at least 1 got 0"),
                )
            });
        }
        let mut arguments = self.operands(rest, dot)?;
        arguments.extend(piped);
        let end = rest.last().map_or(head.span.1, |operand| operand.span.1);
        funcs::call(name, &arguments)
            .map_err(|what| self.fail_at(head.at, (head.span.0, end), &what))
    }

    fn operand(&mut self, operand: &Operand, dot: Dot<'_>) -> Result<Value, TemplateError> {
        let group;
        let (mut value, mut at_root) = match &operand.base {
            Base::Dot => (dot.value, dot.is_root),
            Base::Constant(value) => (value, false),
            Base::Variable(name) => {
                let found = self.variables.iter().rev().find(|(known, _)| known == name);
                (
                    found.map_or(&Value::Null, |(_, value)| value),
                    name.is_empty(),
                )
            }
            Base::Group(pipeline) => {
                group = self.pipeline(pipeline, dot)?;
                (&group, false)
            }
            Base::Function(_) => (&Value::Null, false),
        };
        let mut owned;
        let mut stood_in = None;
        for name in &operand.fields {
            let next = match value {
                Value::Object(map) => map.get(name).or_else(|| map.get(self.root.key_of(name)?)),
                Value::Null if let Some(name) = stood_in => {
                    let what = format!("map has no entry for key {}", quote(name));
                    return Err(self.fail(operand, &what));
                }
                Value::Null => {
                    let what = format!("nil pointer evaluating interface {{}}.{name}");
                    return Err(self.fail(operand, &what));
                }
                _ => None,
            };
            value = match next {
                Some(next) => next,
                None => {
                    let method = if at_root {
                        self.root.method(name, &[])
                    } else {
                        None
                    };
                    let known = value.is_object().then(|| self.root.absent(name)).flatten();
                    let Some(stand_in) = method.or(known) else {
                        return Err(self.fail(operand, &self.no_field(value, name, at_root)));
                    };
                    owned = stand_in;
                    stood_in = Some(name);
                    &owned
                }
            };
            at_root = false;
        }
        Ok(value.clone())
    }

    fn no_field(&self, value: &Value, name: &str, at_root: bool) -> String {
        match value {
            Value::Object(_) if at_root => self.root.unknown(name),
            Value::Object(_) => format!("map has no entry for key {}", quote(name)),
            Value::Array(_) => format!("can't evaluate field {name} in type []interface {{}}"),
            _ => format!("can't evaluate field {name} in type interface {{}}"),
        }
    }
}

/// What a pipeline's value looks like in the output.
///
/// Go's clients hold typed values: a list or map that JSON shows as `null` prints as an empty one.
fn shown(pipeline: &Pipeline, value: &Value) -> String {
    if !value.is_null() {
        return plain(value);
    }
    let field = match pipeline.commands.as_slice() {
        [command] => command.operands[0].fields.last().map(String::as_str),
        _ => None,
    };
    match field {
        Some(
            "Volumes" | "ExposedPorts" | "Labels" | "PortBindings" | "Tmpfs" | "Sysctls"
            | "StorageOpt" | "Annotations" | "Options" | "Ports" | "DriverOpts" | "IPAMConfig",
        ) => "map[]".to_owned(),
        Some(
            "Cmd" | "Entrypoint" | "Env" | "OnBuild" | "Shell" | "Binds" | "Mounts" | "CapAdd"
            | "CapDrop" | "Dns" | "DnsOptions" | "DnsSearch" | "ExtraHosts" | "GroupAdd" | "Links"
            | "SecurityOpt" | "VolumesFrom" | "Devices" | "Ulimits" | "Aliases" | "DNSNames"
            | "RepoTags" | "RepoDigests" | "ExecIDs" | "DeviceRequests" | "DeviceCgroupRules"
            | "Args" | "MaskedPaths" | "ReadonlyPaths",
        ) => "[]".to_owned(),
        Some(
            "Health" | "Healthcheck" | "Init" | "PidsLimit" | "OomKillDisable" | "StopTimeout"
            | "MemorySwappiness",
        ) => "<nil>".to_owned(),
        _ => "<no value>".to_owned(),
    }
}

//! Makes the tree of a template from its tokens.

use super::TemplateError;
use super::ast::{Base, Command, Node, Operand, Pipeline};
use super::funcs;
use super::lex::{Kind, Token, error};
use super::print::quote;
use serde_json::{Number, Value};

/// How deep blocks and parentheses may nest.
const DEPTH: usize = 200;

struct Parser<'a> {
    source: &'a str,
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
    loops: usize,
    scopes: Vec<Vec<String>>,
}

/// What ended a list of nodes.
#[derive(Debug, PartialEq)]
enum Stop {
    Source,
    /// `{{end}}`
    Block,
    /// `else`, and whether `if` or `with` follows in the same action.
    Else(Option<&'static str>),
}

pub(super) fn parse(source: &str, tokens: Vec<Token>) -> Result<Vec<Node>, TemplateError> {
    let scopes = vec![vec![String::new()]];
    let mut parser = Parser {
        source,
        tokens,
        at: 0,
        depth: 0,
        loops: 0,
        scopes,
    };
    let (nodes, end) = parser.list()?;
    match end {
        Stop::Source => Ok(nodes),
        Stop::Block => Err(parser.fail("unexpected {{end}}")),
        Stop::Else(_) => Err(parser.fail("unexpected {{else}}")),
    }
}

impl Parser<'_> {
    fn peek(&self) -> Option<&Kind> {
        self.tokens.get(self.at).map(|token| &token.kind)
    }

    fn take(&mut self) -> Option<Token> {
        let token = self.tokens.get(self.at).cloned();
        self.at += 1;
        token
    }

    /// Where the reader stands in the source.
    fn offset(&self) -> usize {
        let last = self
            .at
            .saturating_sub(1)
            .min(self.tokens.len().saturating_sub(1));
        self.tokens.get(last).map_or(0, |token| token.start)
    }

    fn fail(&self, what: &str) -> TemplateError {
        error(self.source, self.offset(), what)
    }

    fn unexpected(&self, token: Option<&Token>, context: &str) -> TemplateError {
        let shown = match token {
            None => "EOF".to_owned(),
            Some(token) => match &token.kind {
                Kind::Close => "\"}}\"".to_owned(),
                Kind::Word(word) => format!("<{word}>"),
                Kind::Field(_) | Kind::Dot => format!("<{}>", &self.source[token.start..token.end]),
                _ => quote(&self.source[token.start..token.end]),
            },
        };
        self.fail(&format!("unexpected {shown} in {context}"))
    }

    fn list(&mut self) -> Result<(Vec<Node>, Stop), TemplateError> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(self.fail("template nests too deep"));
        }
        let mut nodes = Vec::new();
        let end = loop {
            let Some(token) = self.take() else {
                break Stop::Source;
            };
            match token.kind {
                Kind::Text(text) => nodes.push(Node::Text(text)),
                _ => {
                    if let Some(end) = self.action(&mut nodes)? {
                        break end;
                    }
                }
            }
        };
        self.depth -= 1;
        Ok((nodes, end))
    }

    /// Parses what stands behind `{{`.
    fn action(&mut self, nodes: &mut Vec<Node>) -> Result<Option<Stop>, TemplateError> {
        let word = match self.peek() {
            Some(Kind::Word(word)) => word.clone(),
            _ => String::new(),
        };
        if !matches!(
            word.as_str(),
            "end" | "else" | "if" | "with" | "range" | "break" | "continue"
        ) {
            let pipeline = self.pipeline("command", &Kind::Close)?;
            nodes.push(Node::Output(pipeline));
            return Ok(None);
        }
        self.at += 1;
        match word.as_str() {
            "end" => {
                self.close("end")?;
                return Ok(Some(Stop::Block));
            }
            "else" => return self.otherwise().map(Some),
            "break" | "continue" => {
                if self.loops == 0 {
                    return Err(self.fail(&format!("{{{{{word}}}}} outside {{{{range}}}}")));
                }
                self.close(&word)?;
                nodes.push(if word == "break" {
                    Node::Break
                } else {
                    Node::Continue
                });
            }
            _ => nodes.push(self.block(&word)?),
        }
        Ok(None)
    }

    fn otherwise(&mut self) -> Result<Stop, TemplateError> {
        let follows = match self.peek() {
            Some(Kind::Word(word)) if word == "if" => Some("if"),
            Some(Kind::Word(word)) if word == "with" => Some("with"),
            _ => None,
        };
        if follows.is_some() {
            self.at += 1;
        } else {
            self.close("else")?;
        }
        Ok(Stop::Else(follows))
    }

    fn close(&mut self, context: &str) -> Result<(), TemplateError> {
        match self.take() {
            Some(Token {
                kind: Kind::Close, ..
            }) => Ok(()),
            other => Err(self.unexpected(other.as_ref(), context)),
        }
    }

    /// Parses a block whose keyword was taken, up to and with its `{{end}}`.
    fn block(&mut self, word: &str) -> Result<Node, TemplateError> {
        self.scopes.push(Vec::new());
        let head = self.pipeline(word, &Kind::Close)?;
        self.loops += usize::from(word == "range");
        let (body, end) = self.list()?;
        self.loops -= usize::from(word == "range");
        let otherwise = match end {
            Stop::Source => return Err(self.fail("unexpected EOF")),
            Stop::Block => Vec::new(),
            Stop::Else(None) => match self.list()? {
                (nodes, Stop::Block) => nodes,
                (_, Stop::Source) => return Err(self.fail("unexpected EOF")),
                (_, Stop::Else(_)) => return Err(self.fail("expected end; found {{else}}")),
            },
            Stop::Else(Some(next)) if next == word => vec![self.block(next)?],
            Stop::Else(Some(next)) => {
                return Err(self.fail(&format!("unexpected <{next}> in else")));
            }
        };
        self.scopes.pop();
        Ok(match word {
            "if" => Node::If {
                condition: head,
                body,
                otherwise,
            },
            "with" => Node::With {
                value: head,
                body,
                otherwise,
            },
            _ => Node::Range {
                over: head,
                body,
                otherwise,
            },
        })
    }

    /// Parses a pipeline up to and with the token `end`.
    fn pipeline(&mut self, context: &str, end: &Kind) -> Result<Pipeline, TemplateError> {
        let (variables, assigns) = self.variables(context)?;
        let mut commands = Vec::new();
        loop {
            let mut operands = Vec::new();
            let ended = loop {
                match self.peek() {
                    Some(kind) if kind == end => {
                        self.at += 1;
                        break true;
                    }
                    Some(Kind::Pipe) => {
                        self.at += 1;
                        break false;
                    }
                    _ => operands.push(self.operand(context)?),
                }
            };
            if operands.is_empty() {
                return Err(self.fail(&format!("missing value for {context}")));
            }
            self.check_command(&operands, !commands.is_empty())?;
            commands.push(Command { operands });
            if ended {
                break;
            }
        }
        Ok(Pipeline {
            variables,
            assigns,
            commands,
        })
    }

    /// A constant takes no arguments and no value of a pipe.
    fn check_command(&self, operands: &[Operand], piped: bool) -> Result<(), TemplateError> {
        let Base::Constant(_) = operands[0].base else {
            return Ok(());
        };
        let (start, end) = operands[0].span;
        if piped {
            return Err(self.fail("non executable command in pipeline stage 2"));
        }
        if operands.len() > 1 {
            let text = &self.source[start..end];
            return Err(self.fail(&format!("can't give argument to non-function {text}")));
        }
        Ok(())
    }

    /// Parses `$x :=`, `$i, $x :=` and `$x =`, if they stand here.
    fn variables(&mut self, context: &str) -> Result<(Vec<String>, bool), TemplateError> {
        let start = self.at;
        let mut names = Vec::new();
        while let Some(Kind::Variable(name)) = self.peek() {
            names.push(name.clone());
            self.at += 1;
            match self.peek() {
                Some(Kind::Comma) if context == "range" && names.len() < 2 => self.at += 1,
                Some(Kind::Declare) => {
                    self.at += 1;
                    for name in &names {
                        self.declare(name);
                    }
                    return Ok((names, false));
                }
                Some(Kind::Assign) => {
                    self.at += 1;
                    for name in &names {
                        self.known(name)?;
                    }
                    return Ok((names, true));
                }
                _ => break,
            }
        }
        self.at = start;
        Ok((Vec::new(), false))
    }

    fn declare(&mut self, name: &str) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.push(name.to_owned());
        }
    }

    fn known(&self, name: &str) -> Result<(), TemplateError> {
        if self.scopes.iter().flatten().any(|known| known == name) {
            return Ok(());
        }
        Err(self.fail(&format!("undefined variable \"${name}\"")))
    }

    fn operand(&mut self, context: &str) -> Result<Operand, TemplateError> {
        let Some(token) = self.take() else {
            return Err(self.unexpected(None, context));
        };
        let mut fields = Vec::new();
        let mut at = None;
        let base = match token.kind {
            Kind::Dot => Base::Dot,
            Kind::Field(name) => {
                fields.push(name);
                Base::Dot
            }
            Kind::Variable(name) => {
                self.known(&name)?;
                Base::Variable(name)
            }
            Kind::Literal(text) => Base::Constant(Value::String(text)),
            Kind::Character(c) => Base::Constant(Value::from(u32::from(c))),
            Kind::Number(text) => Base::Constant(self.number(&text)?),
            Kind::Word(word) => self.word(word)?,
            Kind::LeftParen => {
                self.depth += 1;
                if self.depth > DEPTH {
                    return Err(self.fail("template nests too deep"));
                }
                let group = self.pipeline("parenthesized pipeline", &Kind::RightParen)?;
                self.depth -= 1;
                Base::Group(Box::new(group))
            }
            _ => return Err(self.unexpected(Some(&token), "operand")),
        };
        while let Some(Token {
            kind: Kind::Field(name),
            spaced: false,
            ..
        }) = self.tokens.get(self.at)
        {
            if matches!(base, Base::Constant(_) | Base::Function(_)) {
                let text = &self.source[token.start..self.tokens[self.at].end];
                return Err(self.fail(&format!("unexpected . after term {}", quote(text))));
            }
            fields.push(name.clone());
            at.get_or_insert(self.tokens[self.at].start);
            self.at += 1;
        }
        let end = self.tokens[self.at - 1].end;
        Ok(Operand {
            span: (token.start, end),
            at: at.unwrap_or(token.start),
            base,
            fields,
        })
    }

    fn word(&self, word: String) -> Result<Base, TemplateError> {
        Ok(match word.as_str() {
            "true" => Base::Constant(Value::Bool(true)),
            "false" => Base::Constant(Value::Bool(false)),
            "nil" => Base::Constant(Value::Null),
            name if funcs::exists(name) => Base::Function(word),
            _ => return Err(self.fail(&format!("function {} not defined", quote(&word)))),
        })
    }

    fn number(&self, text: &str) -> Result<Value, TemplateError> {
        let plain = text.replace('_', "");
        let (sign, digits) = match plain.strip_prefix('-') {
            Some(rest) => (-1, rest),
            None => (1, plain.trim_start_matches('+')),
        };
        let integer = if let Some(hex) = digits.strip_prefix("0x").or(digits.strip_prefix("0X")) {
            i64::from_str_radix(hex, 16).ok()
        } else {
            digits.parse::<i64>().ok()
        };
        if let Some(integer) = integer {
            return Ok(Value::from(sign * integer));
        }
        let float = plain.parse::<f64>().ok().and_then(Number::from_f64);
        float
            .map(Value::Number)
            .ok_or_else(|| self.fail(&format!("bad number syntax: {}", quote(text))))
    }
}

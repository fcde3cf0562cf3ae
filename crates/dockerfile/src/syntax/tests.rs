use super::*;

fn parse(text: &str) -> Document {
    Document::parse(text.as_bytes()).unwrap()
}

fn refuse(text: &str) -> String {
    let e = Document::parse(text.as_bytes()).unwrap_err();
    let span = e
        .span
        .map_or(String::new(), |s| format!("{}-{}: ", s.start, s.end));
    format!("{span}{}", e.error)
}

/// Checks the first instruction: name, flags, arguments.
fn check(text: &str, name: &str, flags: &[&str], args: &[&str]) {
    let node = &parse(text).nodes[0];
    assert_eq!(node.name, name, "{text}");
    assert_eq!(node.flags, flags, "{text}");
    assert_eq!(node.args, args, "{text}");
}

#[test]
fn reads_instructions() {
    check("FROM  a\tAS b", "FROM", &[], &["a", "AS", "b"]);
    check("from --platform=x a", "from", &["--platform=x"], &["a"]);
    check(
        "ENV a=b c='d e'",
        "ENV",
        &[],
        &["a", "b", "=", "c", "'d e'", "="],
    );
    check("ENV a b c", "ENV", &[], &["a", "b c", ""]);
    check("LABEL \"a b\"=c", "LABEL", &[], &["\"a b\"", "c", "="]);
    check("ARG a b=c d='e f'", "ARG", &[], &["a", "b=c", "d='e f'"]);
    check("RUN echo  $x 'y'", "RUN", &[], &["echo  $x 'y'"]);
    check("RUN [\"a\", \"b\"]", "RUN", &[], &["a", "b"]);
    check("RUN [a]", "RUN", &[], &["[a]"]);
    check(
        "COPY --from=x --link a b c",
        "COPY",
        &["--from=x", "--link"],
        &["a", "b", "c"],
    );
    check("COPY [\"a b\", \"c\"]", "COPY", &[], &["a b", "c"]);
    check(
        "HEALTHCHECK --interval=5s CMD a b",
        "HEALTHCHECK",
        &["--interval=5s"],
        &["CMD", "a b"],
    );
    check("HEALTHCHECK CMD [\"a\"]", "HEALTHCHECK", &[], &["CMD", "a"]);
    check(
        "ONBUILD COPY --chown=1 a b",
        "ONBUILD",
        &[],
        &["COPY", "a", "b"],
    );
    check("ONBUILD ONBUILD RUN x", "ONBUILD", &[], &["ONBUILD"]);
    check("CMD []", "CMD", &[], &[]);
    check("WORKDIR  /a b ", "WORKDIR", &[], &["/a b"]);
    check("\u{feff}FROM a", "FROM", &[], &["a"]);
    check("FOO bar", "FOO", &[], &[]);
}

#[test]
fn joins_lines() {
    check("RUN a \\\n  b \\ \t\n# c\n\n d", "RUN", &[], &["a   b  d"]);
    check("# escape=`\nRUN a `\nb\\", "RUN", &[], &["a b\\"]);
    check("RUN a \\\\\nFROM b", "RUN", &[], &["a \\\\"]);
    check("RUN a\\\r\nb\r\n", "RUN", &[], &["ab"]);
    check("RUN a\\", "RUN", &[], &["a"]);
    let doc = parse("FROM a\nRUN b\\\n\n\\\nc\nRUN d");
    assert_eq!(doc.empty_continuations, [Span::line(5)]);
    assert_eq!(doc.nodes[1].span, Span::new(2, 5));
    assert_eq!(doc.nodes[2].span, Span::line(6));
}

/// What a file is refused for.
fn refused(text: &str) -> SyntaxError {
    Document::parse(text.as_bytes()).unwrap_err().error
}

#[test]
fn many_small_things_are_refused() {
    let many = |piece: &str, count: usize| format!("FROM a\n{}", piece.repeat(count));
    let enough = many("A b\n", MAX_INSTRUCTIONS - 1);
    assert_eq!(parse(&enough).nodes.len(), MAX_INSTRUCTIONS);
    for text in [many("A b\n", MAX_INSTRUCTIONS), many("a\n", 2_000_000)] {
        assert_eq!(refused(&text), SyntaxError::TooManyInstructions);
    }
    let line = format!("EXPOSE {}\n", "1 ".repeat(30_000));
    assert_eq!(refused(&many(&line, 20)), SyntaxError::TooManyWords);
    let line = format!("RUN {}\n", "<<A ".repeat(16_000));
    let heredocs = format!("{line}{}", "A\n".repeat(16_000));
    assert_eq!(refused(&many(&heredocs, 40)), SyntaxError::TooManyWords);
    let long = format!("FROM a\nRUN {}", "1 \\\n".repeat(MAX_INSTRUCTION));
    assert_eq!(refused(&long), SyntaxError::InstructionTooLong);
    // of comments the last ones count
    let comments: String = (0..10_000).map(|n| format!("# {n}\n")).collect();
    let node = &parse(&format!("{comments}FROM a\n")).nodes[0];
    assert_eq!(node.comments.len(), MAX_COMMENTS);
    assert_eq!(node.comments.last().map(String::as_str), Some("9999"));
}

#[test]
fn reads_heredocs() {
    let doc = parse("RUN <<A cat <<-'B' 3<<\"C D\"\n1\n$x\nA\n\t2\n\tB\n3\nC D\nUSER x\n");
    let node = &doc.nodes[0];
    let shown: Vec<_> = node
        .heredocs
        .iter()
        .map(|h| {
            (
                h.name.as_str(),
                h.descriptor,
                h.expand,
                h.chomp,
                h.content.as_str(),
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            ("A", 0, true, false, "1\n$x\n"),
            ("B", 0, false, true, "\t2\n"),
            ("C D", 3, false, false, "3\n"),
        ]
    );
    assert_eq!(
        (node.span, doc.nodes[1].span),
        (Span::new(1, 8), Span::line(9))
    );
    assert_eq!(chomp("\t\ta\n\tb\tc\n"), "a\nb\tc\n");
    // not a here-document: another instruction, an array, a here-string, a shift
    for text in [
        "CMD <<A\nFOO",
        "RUN [\"<<A\"]\nFOO",
        "RUN a <<<b\nFOO",
        "RUN a << 1\nFOO",
    ] {
        assert_eq!(parse(text).nodes.len(), 2, "{text}");
    }
    assert_eq!(
        parse("ONBUILD COPY <<A /x\nhi\nA").nodes[0].heredocs.len(),
        1
    );
}

#[test]
fn collects_comments() {
    let doc =
        parse("# syntax=x\n# one\n#  two\nFROM a\n# two b\n\n# three\nRUN b\n# lost\n#\nRUN c");
    assert_eq!(doc.nodes[0].comments, ["one", "two"]);
    assert_eq!(doc.nodes[1].comments, ["two b", "three"]);
    assert!(doc.nodes[2].comments.is_empty());
}

#[test]
fn refuses() {
    for (text, message) in [
        ("", "the Dockerfile cannot be empty"),
        ("# a\n\n", "1-2: file with no instructions"),
        (
            "# escape=x\nFROM a",
            "1-1: invalid escape token 'x' does not match ` or \\",
        ),
        (
            "# escape=`\n# escape=`",
            "2-2: only one escape parser directive can be used",
        ),
        ("FROM a\nENV b\n", "2-2: ENV must have two arguments"),
        ("LABEL b", "1-1: LABEL must have two arguments"),
        (
            "ENV a=b\\\n c",
            "1-2: Syntax error - can't find = in \"c\". Must be of the form: name=value",
        ),
        (
            "CMD [1]",
            "1-1: when using JSON array syntax, arrays must be comprised of strings only",
        ),
        ("RUN <<A\nb\n", "1-2: unterminated heredoc"),
    ] {
        assert_eq!(refuse(text), message);
    }
    let long = format!("FROM a\n# {}", "x".repeat(70_000));
    assert_eq!(
        refuse(&long),
        "2-2: dockerfile line greater than max allowed size of 65535"
    );
    let large = "# x\n".repeat(5 << 20);
    assert!(refuse(&large).contains("maximum allowed size"));
}

#[test]
fn finds_directives() {
    let find = |t: &str| syntax(t.as_bytes()).map(|d| (d.word, d.span.start));
    let found = |l| Some(("a/b:1".to_owned(), l));
    assert_eq!(find("# syntax=a/b:1"), found(1));
    assert_eq!(
        find("#!/bin/x\n# escape=`\n#SYNTAX = a/b:1 foo \nFROM x"),
        found(3)
    );
    assert_eq!(find("// syntax=a/b:1\nx"), found(1));
    assert_eq!(find("{\"syntax\": \"a/b:1\"}"), found(0));
    assert_eq!(find("# foo\n# syntax=a/b:1"), None);
    assert_eq!(find("FROM x"), None);
    assert_eq!(comment_directive("check=skip=A", "check"), Some("skip=A"));
    assert_eq!(comment_directive("check this", "check"), None);
}

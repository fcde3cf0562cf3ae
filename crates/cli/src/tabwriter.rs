//! Columns as Go's `text/tabwriter` lays them out for Docker's clients: at least 10 wide, 3 spaces between.

const LEAST: usize = 10;
const PADDING: usize = 3;

/// Lays out lines whose cells end in tabs.
///
/// A column is a run of lines that have a cell there; its width is that of its widest cell. What follows the last tab of
/// a line belongs to no column.
pub(crate) fn align(text: &str) -> String {
    align_with(text, LEAST)
}

/// The same with another least width.
pub(crate) fn align_with(text: &str, least: usize) -> String {
    let mut lines: Vec<Vec<&str>> = text
        .split('\n')
        .map(|line| line.split('\t').collect())
        .collect();
    let open_end = if text.ends_with('\n') {
        lines.pop()
    } else {
        None
    };
    let mut widths: Vec<Vec<usize>> = lines.iter().map(|line| vec![0; line.len() - 1]).collect();
    let columns = widths.iter().map(Vec::len).max().unwrap_or(0);
    for column in 0..columns {
        let mut start = 0;
        while start < lines.len() {
            let run = lines[start..]
                .iter()
                .take_while(|line| line.len() > column + 1)
                .count();
            let cells = lines[start..start + run]
                .iter()
                .map(|line| line[column].chars().count());
            let widest = cells.max().unwrap_or(0);
            let width = (widest + PADDING).max(least);
            for line in &mut widths[start..start + run] {
                line[column] = width;
            }
            start += run.max(1);
        }
    }
    let mut out = String::with_capacity(text.len() * 2);
    let count = lines.len();
    for (index, (line, widths)) in lines.iter().zip(&widths).enumerate() {
        for (cell, width) in line.iter().zip(widths) {
            out.push_str(cell);
            out.extend(std::iter::repeat_n(
                ' ',
                width.saturating_sub(cell.chars().count()),
            ));
        }
        out.push_str(line.last().copied().unwrap_or_default());
        if index + 1 < count || open_end.is_some() {
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(input: &str, expect: &str) {
        assert_eq!(align(input), expect, "{input:?}");
    }

    #[test]
    fn columns() {
        check("", "");
        check("a\n", "a\n");
        check("ID\tNAME\n1\tx\n", "ID        NAME\n1         x\n");
        check(
            "CONTAINER ID\tB\n1\t2\n",
            "CONTAINER ID   B\n1              2\n",
        );
        check("a\tb\tc\n", "a         b         c\n");
        check(
            "일이삼사오육칠팔구십\tx\n1\ty\n",
            "일이삼사오육칠팔구십   x\n1            y\n",
        );
        // a line without the cell ends the column
        check(
            "aaaaaaaaaaaa\tb\n\nc\td\n",
            "aaaaaaaaaaaa   b\n\nc         d\n",
        );
        check("a\tb", "a         b");
    }
}

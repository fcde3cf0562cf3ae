//! Tables of an `SQLite` file (`SQLite`'s "Database File Format"), as far as rpm's database needs it: the
//! rows of a table of numbers and blobs.

/// The beginning of each file.
const MAGIC: &[u8] = b"SQLite format 3\0";
/// Pages that are looked at, and how deep trees may be: a damaged file may point in circles.
const PAGES_MAX: usize = 1 << 20;
const DEPTH_MAX: usize = 32;
/// The longest row.
const ROW_MAX: usize = 64 << 20;

/// Kinds of pages of a table's tree.
const INNER: u8 = 5;
const LEAF: u8 = 13;

struct File<'f> {
    bytes: &'f [u8],
    page: usize,
    /// Bytes of a page without those that are reserved at its end.
    usable: usize,
}

/// A big-endian number of up to eight bytes.
fn number(bytes: &[u8], at: usize, width: usize) -> Option<u64> {
    let field = bytes.get(at..at.checked_add(width)?)?;
    Some(
        field
            .iter()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
    )
}

fn index(number: u64) -> Option<usize> {
    usize::try_from(number).ok()
}

/// A number of one to nine bytes with seven bits in each but the ninth.
fn varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0_u64;
    for place in 0..9 {
        let byte = *bytes.get(*at)?;
        *at += 1;
        if place == 8 {
            return Some(value << 8 | u64::from(byte));
        }
        value = value << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// A column of a row.
enum Column<'r> {
    Number(u64),
    Bytes(&'r [u8]),
    Other,
}

/// The columns of a row: types in front, values behind.
fn columns(row: &[u8]) -> Option<Vec<Column<'_>>> {
    let mut at = 0;
    let head = index(varint(row, &mut at)?)?;
    let mut value = head;
    let mut columns = Vec::new();
    while at < head {
        let kind = varint(row, &mut at)?;
        let width = match kind {
            0 | 8 | 9 => 0,
            1..=4 => index(kind)?,
            5 => 6,
            6 | 7 => 8,
            10 | 11 => return None,
            _ => index((kind - 12) / 2)?,
        };
        let bytes = row.get(value..value.checked_add(width)?)?;
        value += width;
        columns.push(match kind {
            1..=6 => Column::Number(number(bytes, 0, width)?),
            9 => Column::Number(1),
            8 => Column::Number(0),
            12.. => Column::Bytes(bytes),
            _ => Column::Other,
        });
    }
    Some(columns)
}

impl<'f> File<'f> {
    fn open(bytes: &'f [u8]) -> Option<Self> {
        if !bytes.starts_with(MAGIC) {
            return None;
        }
        let page = match number(bytes, 16, 2)? {
            1 => 65_536,
            other => index(other)?,
        };
        let reserved = usize::from(*bytes.get(20)?);
        let usable = page.checked_sub(reserved).filter(|usable| *usable >= 480)?;
        (page >= 512).then_some(Self {
            bytes,
            page,
            usable,
        })
    }

    /// A page by its number, which begins with one.
    fn page(&self, number: u64) -> Option<&'f [u8]> {
        let start = index(number.checked_sub(1)?)?.checked_mul(self.page)?;
        self.bytes.get(start..start.checked_add(self.page)?)
    }

    /// Gives all rows of the table whose tree begins at a page.
    fn rows(&self, root: u64, left: &mut usize, give: &mut dyn FnMut(&[u8])) {
        self.tree(root, DEPTH_MAX, left, give);
    }

    fn tree(
        &self,
        number_: u64,
        depth: usize,
        left: &mut usize,
        give: &mut dyn FnMut(&[u8]),
    ) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        *left = left.checked_sub(1)?;
        let page = self.page(number_)?;
        // the first page has the file's header in front
        let head = if number_ == 1 { 100 } else { 0 };
        let kind = *page.get(head)?;
        let cells = index(number(page, head + 3, 2)?)?;
        let pointers = head + if kind == INNER { 12 } else { 8 };
        for cell in 0..cells {
            let at = index(number(page, pointers + 2 * cell, 2)?)?;
            match kind {
                INNER => {
                    let child = number(page, at, 4)?;
                    self.tree(child, depth, left, give);
                }
                LEAF => {
                    if let Some(row) = self.row(page, at, left) {
                        give(&row);
                    }
                }
                _ => return None,
            }
        }
        if kind == INNER {
            let last = number(page, head + 8, 4)?;
            self.tree(last, depth, left, give);
        }
        Some(())
    }

    /// A row, of which what does not fit into its page goes on in others.
    fn row(&self, page: &[u8], mut at: usize, left: &mut usize) -> Option<Vec<u8>> {
        let length = index(varint(page, &mut at)?)?;
        varint(page, &mut at)?;
        if length > ROW_MAX {
            return None;
        }
        let local = self.local(length);
        let mut row = page.get(at..at.checked_add(local)?)?.to_vec();
        if local == length {
            return Some(row);
        }
        let mut next = number(page, at + local, 4)?;
        while row.len() < length {
            *left = left.checked_sub(1)?;
            let page = self.page(next)?;
            next = number(page, 0, 4)?;
            let most = (length - row.len()).min(self.usable - 4);
            row.extend_from_slice(page.get(4..4 + most)?);
        }
        Some(row)
    }

    /// Bytes of a row that are in its own page.
    fn local(&self, length: usize) -> usize {
        let most = self.usable - 35;
        if length <= most {
            return length;
        }
        let least = (self.usable - 12) * 32 / 255 - 23;
        let fitting = least + (length - least) % (self.usable - 4);
        if fitting <= most { fitting } else { least }
    }
}

/// Gives the last blob of each row of a table.
pub(super) fn blobs(bytes: &[u8], table: &str, give: &mut dyn FnMut(&[u8])) {
    let Some(file) = File::open(bytes) else {
        return;
    };
    let mut left = PAGES_MAX;
    let mut root = None;
    // the schema: type, name, table, first page, text
    file.rows(1, &mut left, &mut |row| {
        let Some(columns) = columns(row) else { return };
        if let [
            Column::Bytes(b"table"),
            Column::Bytes(name),
            _,
            Column::Number(page),
            ..,
        ] = columns.as_slice()
            && *name == table.as_bytes()
        {
            root = Some(*page);
        }
    });
    let Some(root) = root else { return };
    file.rows(root, &mut left, &mut |row| {
        let found = columns(row);
        let blob = found
            .iter()
            .flatten()
            .rev()
            .find_map(|column| match column {
                Column::Bytes(bytes) => Some(*bytes),
                Column::Number(_) | Column::Other => None,
            });
        if let Some(blob) = blob {
            give(blob);
        }
    });
}

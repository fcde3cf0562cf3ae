//! Berkeley DB's hash tables, `Packages` of rpm 4.15 and older (Berkeley DB's src/dbinc/db_page.h): pages of
//! pairs, of which long values lie in chains of pages of their own.

/// What a hash table's first page says that it is, in the byte order of the machine that wrote it.
const HASH: u32 = 0x0006_1561;
/// Sizes of a page.
const PAGES: std::ops::RangeInclusive<usize> = 512..=65_536;
/// Bytes of a page's head.
const HEAD: usize = 26;
/// The longest value.
const VALUE_MAX: usize = 64 << 20;

/// Kinds of pages: pairs, unsorted as older versions wrote them or sorted, and parts of a long value.
const UNSORTED: u8 = 2;
const OVERFLOW: u8 = 7;
const SORTED: u8 = 13;
/// Kinds of items: bytes on the page, and a long value elsewhere.
const HERE: u8 = 1;
const ELSEWHERE: u8 = 3;

struct File<'f> {
    bytes: &'f [u8],
    page: usize,
    /// Whether numbers have their highest byte first.
    big: bool,
}

/// A page.
#[derive(Clone, Copy)]
struct Page<'f> {
    bytes: &'f [u8],
    big: bool,
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

fn word(bytes: &[u8], at: usize, big: bool) -> Option<usize> {
    let field = field(bytes, at)?;
    let number = match big {
        true => u32::from_be_bytes(field),
        false => u32::from_le_bytes(field),
    };
    usize::try_from(number).ok()
}

/// Takes from what may still be read; nothing is left where that is not enough.
fn spend(left: &mut usize, bytes: usize) -> Option<()> {
    let rest = left.checked_sub(bytes);
    *left = rest.unwrap_or(0);
    rest.map(drop)
}

impl<'f> Page<'f> {
    fn word(self, at: usize) -> Option<usize> {
        word(self.bytes, at, self.big)
    }

    fn half(self, at: usize) -> Option<usize> {
        let field = field(self.bytes, at)?;
        Some(usize::from(match self.big {
            true => u16::from_be_bytes(field),
            false => u16::from_le_bytes(field),
        }))
    }

    fn kind(self) -> Option<u8> {
        self.bytes.get(25).copied()
    }

    fn entries(self) -> Option<usize> {
        self.half(20)
    }

    /// An item of a page of pairs: they lie from the page's end on downwards.
    fn item(self, number: usize) -> Option<&'f [u8]> {
        let start = self.half(HEAD + 2 * number)?;
        let end = match number.checked_sub(1) {
            Some(above) => self.half(HEAD + 2 * above)?,
            None => self.bytes.len(),
        };
        self.bytes.get(start..end)
    }
}

impl<'f> File<'f> {
    fn open(bytes: &'f [u8]) -> Option<Self> {
        let magic = field(bytes, 12)?;
        let big = match (u32::from_le_bytes(magic), u32::from_be_bytes(magic)) {
            (HASH, _) => false,
            (_, HASH) => true,
            _ => return None,
        };
        let page = word(bytes, 20, big)?;
        let is_encrypted = *bytes.get(24)? != 0;
        let fits = PAGES.contains(&page) && page.is_power_of_two();
        (fits && !is_encrypted).then_some(Self { bytes, page, big })
    }

    fn pages(&self) -> usize {
        self.bytes.len() / self.page
    }

    fn page(&self, number: usize) -> Option<Page<'f>> {
        let start = number.checked_mul(self.page)?;
        Some(Page {
            bytes: self.bytes.get(start..start.checked_add(self.page)?)?,
            big: self.big,
        })
    }

    /// A long value from the pages that it is on.
    fn long(&self, item: Page<'f>, left: &mut usize) -> Option<Vec<u8>> {
        let (mut next, length) = (item.word(4)?, item.word(8)?);
        if length > VALUE_MAX.min(self.bytes.len()) {
            return None;
        }
        let mut value = Vec::new();
        while value.len() < length {
            let page = self.page(next)?;
            let here = page.half(22)?.min(length - value.len());
            if page.kind()? != OVERFLOW || here == 0 {
                return None;
            }
            // the file may lead in circles, and from everywhere to the same long chain
            spend(left, HEAD + here)?;
            value.extend_from_slice(page.bytes.get(HEAD..HEAD.checked_add(here)?)?);
            next = page.word(16)?;
        }
        Some(value)
    }

    /// Gives the values of a page of pairs.
    fn values(&self, page: Page<'f>, left: &mut usize, give: &mut dyn FnMut(&[u8])) -> Option<()> {
        let entries = page.entries()?;
        for number in (1..entries).step_by(2) {
            let item = page.item(number)?;
            spend(left, item.len().max(1))?;
            match item.first()? {
                &HERE => give(item.get(1..)?),
                &ELSEWHERE => {
                    let (bytes, big) = (item, self.big);
                    if let Some(value) = self.long(Page { bytes, big }, left) {
                        give(&value);
                    }
                }
                _ => {}
            }
        }
        Some(())
    }
}

/// Gives the values of all pairs.
pub(super) fn blobs(bytes: &[u8], give: &mut dyn FnMut(&[u8])) {
    let Some(file) = File::open(bytes) else {
        return;
    };
    // each byte belongs to one value, but for files that were made to take long
    let mut left = 2 * bytes.len();
    for number in 1..file.pages() {
        let Some(page) = file.page(number) else {
            return;
        };
        if matches!(page.kind(), Some(UNSORTED | SORTED))
            // a page that is broken is left, and the others are read
            && file.values(page, &mut left, give).is_none()
            && left == 0
        {
            return;
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A hash table with these values, of which long ones lie on pages of their own.
    pub(crate) fn table(values: &[Vec<u8>], page: usize, big: bool) -> Vec<u8> {
        let half = |n: usize| {
            let n = u16::try_from(n).unwrap();
            if big {
                n.to_be_bytes()
            } else {
                n.to_le_bytes()
            }
        };
        let word = |n: usize| {
            let n = u32::try_from(n).unwrap();
            if big {
                n.to_be_bytes()
            } else {
                n.to_le_bytes()
            }
        };
        let mut file = vec![0; page];
        file[12..16].copy_from_slice(&word(usize::try_from(HASH).unwrap()));
        file[20..24].copy_from_slice(&word(page));
        file[25] = 8;
        for (number, value) in values.iter().enumerate() {
            let own = file.len() / page;
            let is_long = value.len() > page / 4;
            let mut items = vec![
                [&[HERE][..], &word(number)].concat(),
                [&[HERE][..], value].concat(),
            ];
            if is_long {
                items[1] = [
                    &[ELSEWHERE, 0, 0, 0][..],
                    &word(own + 1),
                    &word(value.len()),
                ]
                .concat();
            }
            let mut pairs = vec![0; page];
            pairs[20..22].copy_from_slice(&half(items.len()));
            pairs[25] = SORTED;
            let mut end = page;
            for (at, item) in items.iter().enumerate() {
                end -= item.len();
                pairs[end..end + item.len()].copy_from_slice(item);
                pairs[HEAD + 2 * at..HEAD + 2 * at + 2].copy_from_slice(&half(end));
            }
            file.extend(pairs);
            let mut parts = value.chunks(page - HEAD).filter(|_| is_long).peekable();
            while let Some(part) = parts.next() {
                let mut long = vec![0; page];
                let next = file.len() / page + 1;
                let next = if parts.peek().is_some() { next } else { 0 };
                long[16..20].copy_from_slice(&word(next));
                long[22..24].copy_from_slice(&half(part.len()));
                long[25] = OVERFLOW;
                long[HEAD..HEAD + part.len()].copy_from_slice(part);
                file.extend(long);
            }
        }
        file
    }

    fn read(bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        blobs(bytes, &mut |value| found.push(value.to_vec()));
        found
    }

    #[test]
    fn values_of_all_lengths_in_both_orders() {
        let lengths = [0, 1, 100, 129, 486, 487, 5000, 70_000];
        let values = lengths.map(|length: usize| vec![b'v'; length]);
        for big in [false, true] {
            for page in [512, 4096, 32_768] {
                assert_eq!(read(&table(&values, page, big)), values, "{page} {big}");
            }
        }
    }

    #[test]
    fn what_is_no_table_has_no_values() {
        let good = table(&[vec![1; 10]], 512, false);
        let with = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            bytes
        };
        // another magic, size of pages, encryption
        for wrong in [
            with(12, 0),
            with(21, 3),
            with(21, 0),
            with(24, 1),
            Vec::new(),
        ] {
            assert!(read(&wrong).is_empty());
        }
        assert!(read(&good[..600]).is_empty());
    }

    #[test]
    fn circles_and_shared_chains_come_to_an_end() {
        let value = vec![7; 100_000];
        let mut circle = table(&[value.clone()], 512, false);
        // the first part of the value leads to itself
        circle[2 * 512 + 16..2 * 512 + 20].copy_from_slice(&2_u32.to_le_bytes());
        circle[2 * 512 + 22..2 * 512 + 24].copy_from_slice(&1_u16.to_le_bytes());
        assert!(read(&circle).is_empty());
        // all pairs name the same long value
        let one = table(&[value], 512, false);
        let mut many = one.clone();
        for _ in 0..2000 {
            many.extend_from_slice(&one[512..1024]);
        }
        let bytes: usize = read(&many).iter().map(Vec::len).sum();
        assert!(bytes <= 2 * many.len(), "{bytes} of {}", many.len());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(mut bytes in prop::collection::vec(any::<u8>(), 0..5000), big: bool) {
            read(&bytes);
            let head = table(&[], 512, big);
            let length = head.len().min(bytes.len());
            bytes[..length].copy_from_slice(&head[..length]);
            let given: usize = read(&bytes).iter().map(Vec::len).sum();
            prop_assert!(given <= 2 * bytes.len());
        }

        #[test]
        fn damaged_tables_are_read(places in prop::collection::vec((0..20_000_usize, any::<u8>()), 1..40)) {
            let values = [vec![1; 3], vec![2; 3000], vec![3; 100]];
            let mut bytes = table(&values, 512, false);
            for (at, byte) in places {
                let at = at % bytes.len();
                bytes[at] = byte;
            }
            read(&bytes);
        }
    }
}

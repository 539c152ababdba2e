//! Rows and fields as RFC 4180 has them: a field with a delimiter, a quote or a line break in it stands in quotes, so no
//! value can end its field or its row.

use std::collections::HashMap;

use crate::object::Fault;

/// One row: its fields.
pub type Row = Vec<String>;

/// Most rows of one table.
const MAX_ROWS: usize = 100_000;
/// Most fields of one row.
const MAX_FIELDS: usize = 1000;

/// Rows in order, found by their first field. The first of several with the same one counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    rows: Vec<Row>,
    first: HashMap<String, usize>,
}

impl Table {
    /// Reads rows. Empty lines count for nothing.
    ///
    /// # Errors
    /// There are too many, or a quote is not closed.
    pub fn parse(text: &str, delimiter: char) -> Result<Self, Fault> {
        let mut rows = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (row, after) = row(rest, delimiter)?;
            rest = after;
            if row.len() > 1 || row.first().is_some_and(|field| !field.is_empty()) {
                rows.push(row);
            }
            if rows.len() > MAX_ROWS {
                return Err(Fault(format!("a table has more than {MAX_ROWS} rows")));
            }
        }
        Ok(Table::of(rows))
    }

    fn of(rows: Vec<Row>) -> Self {
        let mut first = HashMap::new();
        for (at, row) in rows.iter().enumerate() {
            if let Some(key) = row.first() {
                first.entry(key.clone()).or_insert(at);
            }
        }
        Table { rows, first }
    }

    /// The fields of the row that begins with `key`; none if there is no such row.
    pub fn get(&self, key: &str) -> Row {
        self.first.get(key).and_then(|at| self.rows.get(*at)).cloned().unwrap_or_default()
    }

    /// The table with this row in the place of the one that begins with the same field, or after all others.
    ///
    /// # Errors
    /// The row has no first field, or the table is full.
    pub fn with(&self, row: Row) -> Result<Self, Fault> {
        let key = row.first().filter(|key| !key.is_empty());
        let key = key.ok_or_else(|| Fault::new("a row needs a first field, by which it is found"))?;
        if row.len() > MAX_FIELDS || row.iter().any(|field| field.contains('\0')) {
            return Err(Fault(format!("a row has more than {MAX_FIELDS} fields, or a NUL")));
        }
        let mut rows = self.rows.clone();
        match self.first.get(key) {
            Some(at) => rows[*at] = row,
            None if rows.len() >= MAX_ROWS => {
                return Err(Fault(format!("a table has {MAX_ROWS} rows: it is full")));
            }
            None => rows.push(row),
        }
        Ok(Table::of(rows))
    }

    /// The table without the rows that begin with `key`; `None` if there are none.
    pub fn without(&self, key: &str) -> Option<Self> {
        self.first.get(key)?;
        let others = self.rows.iter().filter(|row| row.first().is_none_or(|first| first != key));
        Some(Table::of(others.cloned().collect()))
    }

    /// The text of all rows.
    pub fn to_text(&self, delimiter: char) -> String {
        let mut text = String::new();
        for row in &self.rows {
            for (at, field) in row.iter().enumerate() {
                if at > 0 {
                    text.push(delimiter);
                }
                write_field(&mut text, field, delimiter);
            }
            text.push('\n');
        }
        text
    }
}

fn write_field(text: &mut String, field: &str, delimiter: char) {
    let is_plain = !field.is_empty() && !field.contains([delimiter, '"', '\r', '\n']);
    if is_plain {
        text.push_str(field);
    } else {
        text.push('"');
        text.push_str(&field.replace('"', "\"\""));
        text.push('"');
    }
}

/// The first row, and what is left after its end.
fn row(text: &str, delimiter: char) -> Result<(Row, &str), Fault> {
    let mut row = Row::new();
    let mut rest = text;
    loop {
        let (field, after) = field(rest, delimiter)?;
        row.push(field);
        if row.len() > MAX_FIELDS {
            return Err(Fault(format!("a row has more than {MAX_FIELDS} fields")));
        }
        if let Some(next) = after.strip_prefix(delimiter) {
            rest = next;
            continue;
        }
        let after = after.strip_prefix('\r').unwrap_or(after);
        return Ok((row, after.strip_prefix('\n').unwrap_or(after)));
    }
}

/// One field, and what follows it: a delimiter, a line break or the end.
fn field(text: &str, delimiter: char) -> Result<(String, &str), Fault> {
    let Some(mut rest) = text.strip_prefix('"') else {
        let end = text.find([delimiter, '\r', '\n']).unwrap_or(text.len());
        return Ok((text[..end].to_owned(), &text[end..]));
    };
    let mut field = String::new();
    loop {
        let Some(end) = rest.find('"') else { return Err(Fault::new("a quote is not closed")) };
        field.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(after) => {
                field.push('"');
                rest = after;
            }
            None => break,
        }
    }
    if rest.is_empty() || rest.starts_with([delimiter, '\r', '\n']) {
        Ok((field, rest))
    } else {
        Err(Fault::new("something follows a closing quote"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row_of(fields: &[&str]) -> Row {
        fields.iter().map(|field| (*field).to_owned()).collect()
    }

    #[test]
    fn rows_are_found_by_their_first_field() {
        let text = "jane,1,x\r\n\"a,b\",\"two\nlines\",\"\"\"quoted\"\"\"\n\njane,2\n\"\",empty\nlast";
        let table = Table::parse(text, ',').unwrap();
        assert_eq!(table.get("jane"), row_of(&["jane", "1", "x"]));
        assert_eq!(table.get("a,b"), row_of(&["a,b", "two\nlines", "\"quoted\""]));
        assert_eq!(table.get(""), row_of(&["", "empty"]));
        assert_eq!(table.get("last"), row_of(&["last"]));
        assert_eq!(table.get("two"), Row::new());
        assert_eq!(Table::parse("a;b,c", ';').unwrap().get("a"), row_of(&["a", "b,c"]));
        for bad in ["\"a", "\"a\"b,c", "\"a\"\"", &",".repeat(MAX_FIELDS)] {
            assert!(Table::parse(bad, ',').is_err(), "{bad}");
        }
        assert!(Table::parse(&"a\n".repeat(MAX_ROWS + 1), ',').is_err());
    }

    #[test]
    fn rows_are_replaced_added_and_removed_by_their_first_field() {
        let table = Table::parse("a,1\nb,2\na,3\n", ',').unwrap();
        let table = table.with(row_of(&["b", "9"])).unwrap().with(row_of(&["c"])).unwrap();
        assert_eq!(table.to_text(','), "a,1\nb,9\na,3\nc\n");
        assert_eq!(table.without("a").unwrap().to_text(','), "b,9\nc\n");
        // Not by what a line begins with.
        assert!(table.without("").is_none() && table.without("a,").is_none());
        assert!(table.with(Row::new()).is_err() && table.with(row_of(&["", "x"])).is_err());
        assert!(table.with(row_of(&["x", "\0"])).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_value_forges_a_field_or_a_row(
            rows in proptest::collection::vec(proptest::collection::vec("[a,;\"\r\n \\\\]{0,4}", 1..4), 0..6),
            delimiter in proptest::sample::select(vec![',', ';', '\t', '|']),
        ) {
            let mut table = Table::default();
            let mut expected: Vec<Row> = Vec::new();
            for row in rows.into_iter().filter(|row| !row[0].is_empty()) {
                table = table.with(row.clone()).unwrap();
                match expected.iter_mut().find(|old| old[0] == row[0]) {
                    Some(old) => *old = row,
                    None => expected.push(row),
                }
            }
            let again = Table::parse(&table.to_text(delimiter), delimiter).unwrap();
            proptest::prop_assert_eq!(&again.rows, &expected);
            proptest::prop_assert_eq!(again, table);
        }
    }
}

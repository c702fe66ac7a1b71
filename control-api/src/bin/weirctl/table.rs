//! Lines up columns.

/// A table: its header, and its rows of as many cells.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(header: &[&str]) -> Self {
        let header = header.iter().map(|&name| name.to_owned()).collect();
        Self { rows: vec![header] }
    }

    pub(crate) fn push(&mut self, row: Vec<String>) {
        self.rows.push(row);
    }

    /// The table's text; `empty` where it has no rows.
    pub(crate) fn text(&self, empty: &str) -> String {
        if self.rows.len() == 1 {
            return format!("{empty}\n");
        }
        let columns = self.rows.first().map_or(0, Vec::len);
        let cell =
            |row: &'_ Vec<String>, column: usize| row.get(column).cloned().unwrap_or_default();
        let widths: Vec<usize> = (0..columns)
            .map(|column| {
                let widths = self
                    .rows
                    .iter()
                    .map(|row| cell(row, column).chars().count());
                widths.max().unwrap_or(0)
            })
            .collect();
        let line = |row: &Vec<String>| -> String {
            let cells = widths.iter().enumerate();
            let padded: Vec<String> = cells
                .map(|(column, width)| format!("{:<width$}", cell(row, column)))
                .collect();
            padded.join("  ").trim_end().to_owned() + "\n"
        };
        self.rows.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&["A", "B"]);
        assert_eq!(table.text("nothing"), "nothing\n");
        table.push(vec!["long".to_owned(), "x".to_owned()]);
        table.push(vec![String::new(), "y".to_owned()]);
        assert_eq!(table.text("nothing"), "A     B\nlong  x\n      y\n");
    }
}

//! One page with everything: no file beside it, no script, nothing from a network.

use std::fmt::Write;

use crate::plot::Plot;
use crate::results::Results;
use crate::table::{Table, tables};

/// The page.
pub(crate) fn text(results: &Results, plots: &[Plot]) -> String {
    let machine = &results.machine;
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>trunkline: benchmarks</title>\n\
         <style>{STYLE}</style>\n<h1>trunkline: benchmarks</h1>\n\
         <p>Each measurement has a server process and a client process of its own, default settings, and a check of \
         every reply. Rounds are interleaved; shown are medians, with the least and the most of all rounds.</p>\n\
         <p>{}, {} cores, Linux {}, load {} when it began.</p>\n",
        escape(&machine.processor),
        machine.cores,
        escape(&machine.kernel),
        escape(&machine.load),
    );
    for plot in plots {
        let _ = write!(page, "<h2>{}</h2>\n<p>{}</p>\n{}", plot.title, plot.note, plot.svg);
    }
    page.push_str("<h2>Figures</h2>\n");
    for table in tables(results) {
        write_table(&mut page, &table);
    }
    page.push_str("<h2>Who was measured</h2>\n<ul>\n");
    for subject in &results.subjects {
        let (name, version) = (escape(&subject.name), escape(&subject.version));
        let _ = writeln!(page, "<li><b>{name}</b> {version}: {}", escape(&subject.configuration));
    }
    page.push_str("</ul>\n");
    write_failures(&mut page, results);
    page
}

fn write_table(page: &mut String, table: &Table) {
    let _ = writeln!(page, "<p>{}.</p>\n<div><table>\n<tr>", escape(table.title));
    table.columns.iter().for_each(|column| page.push_str(&format!("<th>{}", escape(column))));
    for row in &table.rows {
        let class = if row[1] == "trunkline" { " class=\"own\"" } else { "" };
        let _ = write!(page, "\n<tr{class}>");
        row.iter().for_each(|cell| page.push_str(&format!("<td>{}", escape(cell))));
    }
    page.push_str("\n</table></div>\n");
}

/// What failed stays visible.
fn write_failures(page: &mut String, results: &Results) {
    let failed = results.rows.iter().filter_map(|row| Some((row.cell.name(&results.subjects), row.error()?)));
    let mut lines: Vec<String> = failed.map(|(name, error)| format!("{name}: {error}")).collect();
    lines.extend(results.cost.missing.iter().cloned());
    if !lines.is_empty() {
        page.push_str("<h2>What failed</h2>\n<ul>\n");
        lines.iter().for_each(|line| page.push_str(&format!("<li>{}\n", escape(line))));
        page.push_str("</ul>\n");
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

const STYLE: &str = "body{font:15px/1.5 Helvetica,Arial,sans-serif;color:#222;background:#fff;max-width:860px;\
     margin:2em auto;padding:0 1em}svg{max-width:100%;height:auto}div{overflow-x:auto}\
     table{border-collapse:collapse;font-size:13px;white-space:nowrap}\
     td,th{padding:2px 10px;text-align:right;border-bottom:1px solid #ddd}\
     td:nth-child(-n+3){text-align:left}.own{background:#e8f2fa}";

//! The raw figures.

use serde_json::{Value, json};
use trunkline_benches::subject::Error;

use crate::results::Results;

/// Every round of every row.
pub(crate) fn text(results: &Results) -> Result<String, Error> {
    let rounds = results.rows.iter().flat_map(|row| row.rounds.iter().map(move |round| (row, round)));
    let rounds: Vec<Value> = rounds
        .map(|(row, round)| {
            let subject = &results.subjects[row.cell.subject];
            let mut value = json!({
                "transport": row.cell.transport,
                "subject": subject.name,
                "version": subject.version,
                "configuration": subject.configuration,
                "mode": row.cell.mode,
                "what": row.cell.what.name(),
                "round": round.round,
                "spec": round.spec,
            });
            match &round.outcome {
                Ok(outcome) => value["outcome"] = json!(outcome),
                Err(error) => value["error"] = json!(error),
            }
            value
        })
        .collect();
    let all = json!({ "machine": results.machine, "rounds": rounds, "cost": results.cost });
    Ok(serde_json::to_string_pretty(&all)?)
}

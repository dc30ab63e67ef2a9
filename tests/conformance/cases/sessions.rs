//! What is kept with a connection.

use crate::fixture::{Fixture, Served};
use crate::harness::soon;
use crate::ledger::{Mark, token};
use crate::vault::VaultClient;
use trunkline::Connection;

async fn vault(served: &Served) -> (Connection, VaultClient) {
    let connection = served.connect().await;
    let vault = connection.client();
    (connection, vault)
}

pub(crate) async fn each_connection_keeps_values_of_its_own(fixture: Fixture) {
    let served = fixture.serve().await;
    let ((one, ours), (_two, theirs)) = (vault(&served).await, vault(&served).await);
    assert_eq!(ours.log_in(token(), "ada").await, Ok(None));
    assert_eq!(theirs.who().await, Ok(None));
    assert_eq!(theirs.log_in(token(), "bob").await, Ok(None));
    assert_eq!(ours.who().await, Ok(Some("ada".to_owned())));
    // Every client of the connection is the same peer.
    assert_eq!(one.client::<VaultClient>().who().await, Ok(Some("ada".to_owned())));
    assert_eq!(theirs.who().await, Ok(Some("bob".to_owned())));
    assert_eq!(ours.log_out().await, Ok(true));
    assert_eq!(ours.log_out().await, Ok(false));
    assert_eq!(ours.who().await, Ok(None));
}

pub(crate) async fn a_kept_value_goes_with_its_connection(fixture: Fixture) {
    let served = fixture.serve().await;
    let (connection, vault) = vault(&served).await;
    let (first, second) = (token(), token());
    assert_eq!(vault.log_in(first, "ada").await, Ok(None));
    assert_eq!(vault.log_in(second, "eve").await, Ok(Some("ada".to_owned())));
    soon("the first session's end", served.ledger.seen(Mark::Dropped, first)).await;
    assert_eq!(served.ledger.count(Mark::Dropped, second), 0);
    drop(connection);
    soon("the second session's end", served.ledger.seen(Mark::Dropped, second)).await;
    served.rests_at(0).await;
}

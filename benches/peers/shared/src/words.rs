//! An item as four words, for frameworks in which bytes would need an allocation of their own.

use trunkline_benches::Item;

/// The bytes behind the id as words.
pub fn words(item: &Item) -> [u64; 3] {
    let mut words = [0; 3];
    for (word, bytes) in words.iter_mut().zip(item.rest.chunks_exact(8)) {
        let mut eight = [0; 8];
        eight.copy_from_slice(bytes);
        *word = u64::from_le_bytes(eight);
    }
    words
}

/// The item with this id and these words.
pub fn item(id: u64, words: [u64; 3]) -> Item {
    let mut rest = [0; 24];
    for (bytes, word) in rest.chunks_exact_mut(8).zip(words) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    Item { id, rest }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_survives_as_words() {
        let sent = Item::new(7);
        assert_eq!(item(sent.id, words(&sent)), sent);
    }
}

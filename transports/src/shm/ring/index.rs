//! Where things are in a ring. Touches no memory.

use super::DATA;

/// Records begin at multiples of this: one cache line.
pub(super) const LINE: u64 = 64;

/// The arithmetic of one ring.
///
/// Positions are multiples of [`LINE`]; nobody sends the 2^64 bytes that would make one overflow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Index {
    /// A power of two, eight lines at least.
    capacity: u64,
}

/// Where a record goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Bytes of the pad in front of it, up to the ring's end; 0 if none is needed.
    pub(super) pad_len: usize,
    pub(super) start: u64,
    pub(super) end: u64,
}

impl Index {
    /// # Panics
    ///
    /// If `capacity` is no power of two, or too little for a largest record of one line.
    pub(super) fn new(capacity: usize) -> Index {
        assert!(capacity.is_power_of_two() && capacity as u64 >= 8 * LINE, "a ring of {capacity} bytes");
        Index { capacity: capacity as u64 }
    }

    pub(super) fn capacity(self) -> u64 {
        self.capacity
    }

    /// What a pad may waste is less than this, so at most an eighth.
    pub(super) fn record_len_max(self) -> usize {
        super::record_len_max(self.capacity as usize)
    }

    /// The byte of the segment at which `position` is.
    pub(super) fn byte(self, position: u64) -> usize {
        DATA + self.offset(position) as usize
    }

    /// Bytes from the ring's beginning to `position`.
    pub(super) fn offset(self, position: u64) -> u64 {
        position & (self.capacity - 1)
    }

    /// Bytes from `position` to the ring's end, never 0.
    pub(super) fn left(self, position: u64) -> u64 {
        self.capacity - self.offset(position)
    }

    /// Where a record of `len` bytes goes that follows what ends at `position`.
    pub(super) fn place(self, position: u64, len: usize) -> Place {
        let left = self.left(position);
        let pad_len = if span(len) > left { left } else { 0 };
        let start = position + pad_len;
        Place { pad_len: pad_len as usize, start, end: start + span(len) }
    }

    /// How far the consumer must have come before a record may end at `end`. The line after it has to be free as well,
    /// for the zero that ends what is published.
    pub(super) fn head_needed(self, end: u64) -> u64 {
        (end + LINE).saturating_sub(self.capacity)
    }
}

/// What a record of `len` bytes takes up.
pub(super) fn span(len: usize) -> u64 {
    (len as u64).next_multiple_of(LINE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_takes_whole_lines() {
        assert_eq!([1, 16, 63, 64, 65, 128, 129].map(span), [64, 64, 64, 64, 128, 128, 192]);
    }

    #[test]
    fn places_recur_with_every_lap() {
        let ring = Index::new(1024);
        for lap in [0, 1, 2, 1 << 40] {
            let start = lap * 1024;
            assert_eq!((ring.offset(start), ring.byte(start), ring.left(start)), (0, DATA, 1024));
            let last = start + 1024 - LINE;
            assert_eq!((ring.offset(last), ring.byte(last), ring.left(last)), (960, DATA + 960, 64));
        }
    }

    #[test]
    fn a_record_that_ends_with_the_ring_needs_no_pad() {
        let ring = Index::new(1024);
        assert_eq!(ring.place(960, 64), Place { pad_len: 0, start: 960, end: 1024 });
        assert_eq!(ring.place(896, 128), Place { pad_len: 0, start: 896, end: 1024 });
        assert_eq!(ring.place(896, 65), Place { pad_len: 0, start: 896, end: 1024 });
    }

    #[test]
    fn a_record_that_would_cross_the_end_begins_anew() {
        let ring = Index::new(1024);
        assert_eq!(ring.place(960, 65), Place { pad_len: 64, start: 1024, end: 1152 });
        assert_eq!(ring.place(1024 + 960, 128), Place { pad_len: 64, start: 2048, end: 2176 });
    }

    #[test]
    fn the_largest_record_finds_a_place_at_every_offset_of_an_empty_ring() {
        for shift in 9..=16 {
            let ring = Index::new(1 << shift);
            let len = ring.record_len_max();
            for position in (0..2 * ring.capacity()).step_by(LINE as usize) {
                let place = ring.place(position, len);
                assert_eq!(place.start, position + place.pad_len as u64);
                assert_eq!(place.end - place.start, len as u64);
                assert!(place.pad_len < len);
                assert!(ring.offset(place.start) + len as u64 <= ring.capacity());
                assert!(place.pad_len == 0 || ring.offset(place.start) == 0);
                // Even if the consumer has not yet said that it consumed the last quarter.
                assert!(ring.head_needed(place.end) <= position.saturating_sub(ring.capacity() / 4));
            }
        }
    }

    #[test]
    fn one_line_stays_free() {
        let ring = Index::new(512);
        assert_eq!(ring.head_needed(448), 0);
        assert_eq!(ring.head_needed(512), 64);
        assert_eq!(ring.head_needed(1024), 576);
    }

    #[test]
    #[should_panic = "a ring of 768 bytes"]
    fn a_capacity_is_a_power_of_two() {
        Index::new(768);
    }
}

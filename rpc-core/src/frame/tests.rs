use std::time::Duration;

use super::record::KIND_PAD;
use super::*;
use crate::transport::FrameSender;

/// PING 7, then a CALL with an extension.
fn stream() -> Vec<u8> {
    let mut out = crate::transport::BatchBuffer::default();
    assert!(Head::new(Kind::Ping, 0).place(&7u64.to_le_bytes(), &mut out));
    let mut head = Head::new(Kind::Call, 3);
    head.flags = flags::MORE;
    head.extended = Some(Extended { total: Some(5000), encoded: &[] });
    head.lead = Lead::Call(CallHead { method: 1, fingerprint: 2, timeout: 3 });
    assert!(head.place(b"payload", &mut out));
    let mut batch = crate::transport::Bytes::default();
    assert!(out.take_batch(&mut batch));
    batch.as_slice().to_vec()
}

#[test]
fn what_is_placed_is_parsed() {
    let bytes = stream();
    let ping = first_record(&bytes, 4096).unwrap().unwrap();
    let frame = Frame::parse(ping).unwrap().unwrap();
    assert_eq!((frame.kind, frame.id, frame.more(), frame.body), (Kind::Ping, 0, false, &[7, 0, 0, 0, 0, 0, 0, 0][..]));
    let call = first_record(&bytes[ping.len()..], 4096).unwrap().unwrap();
    assert_eq!(ping.len() + call.len(), bytes.len());
    let frame = Frame::parse(call).unwrap().unwrap();
    assert_eq!((frame.kind, frame.id, frame.more()), (Kind::Call, 3, true));
    let extensions: Vec<_> = frame.extensions().collect();
    assert_eq!(extensions, [Ok((tag::TOTAL, &5000u64.to_le_bytes()[..]))]);
    let (head, payload) = CallHead::parse(frame.body).unwrap();
    assert_eq!(head, CallHead { method: 1, fingerprint: 2, timeout: 3 });
    assert_eq!(payload, b"payload");
}

#[test]
fn a_record_that_is_not_all_there_is_waited_for() {
    let bytes = stream();
    let len = first_record(&bytes, 4096).unwrap().unwrap().len();
    for cut in 0..len {
        assert_eq!(first_record(&bytes[..cut], 4096), Ok(None));
    }
}

#[test]
fn impossible_lengths_are_refused_before_anything_is_read() {
    for len in 0..8 {
        assert_eq!(record_len(len, 4096), Err(FrameError::Truncated { what: "header" }));
    }
    assert_eq!(record_len(8, 4096), Ok(16));
    assert_eq!(record_len(4088, 4096), Ok(4096));
    assert_eq!(record_len(4089, 4096), Err(FrameError::TooLong { len: 4097, max: 4096 }));
    let most = u64::from(u32::MAX);
    assert_eq!(record_len(most, 4096), Err(FrameError::TooLong { len: most + 8, max: 4096 }));
    // The rest of the first word is none of the length.
    assert_eq!(record_len(8 | 0xffff_ffff_0000_0000, 4096), Ok(16));
}

#[test]
fn extensions_end_where_the_header_says() {
    let mut bytes = stream().split_off(24);
    for ext in 0..40u16 {
        bytes[6..8].copy_from_slice(&ext.to_le_bytes());
        let parsed = Frame::parse(&bytes);
        if usize::from(ext) > bytes.len() - HEADER_LEN {
            assert_eq!(parsed, Err(FrameError::Truncated { what: "set of extensions" }));
            continue;
        }
        let extensions: Result<Vec<_>, _> = parsed.unwrap().unwrap().extensions().collect();
        match ext {
            0 => assert!(extensions.unwrap().is_empty()),
            12 => assert_eq!(extensions.unwrap().len(), 1),
            1..12 => assert!(extensions.is_err(), "{ext}"),
            _ => {}
        }
    }
}

#[test]
fn a_pad_is_no_frame() {
    for len in [64, 128, 32 << 10] {
        assert_eq!(pad_len(pad(len)), Some(len));
        assert_eq!(record_len(pad(len), 64 << 10), Ok(len));
    }
    let mut bytes = stream();
    assert_eq!(pad_len(u64::from_le_bytes(*bytes.first_chunk().unwrap())), None);
    bytes[4] = KIND_PAD;
    assert_eq!(Frame::parse(&bytes), Err(FrameError::UnknownKind(KIND_PAD)));
}

#[test]
fn a_time_is_rounded_up() {
    let nanos = |nanos| timeout_units(Duration::from_nanos(nanos));
    assert_eq!((nanos(0), nanos(1), nanos(100_000), nanos(100_001)), (0, 1, 1, 2));
    assert_eq!((nanos(999_900_001), nanos(1_000_000_000), nanos(2_000_000_001)), (10_000, 10_000, 20_001));
    assert_eq!(timeout_units(Duration::from_millis(u64::from(u32::MAX) / 10)), u32::MAX - 5);
    assert_eq!(timeout_units(Duration::MAX), u32::MAX);
}

#[test]
fn every_kind_has_one_number() {
    let known: Vec<u8> = (0..=255).filter(|number| Kind::from_wire(*number).is_some()).collect();
    assert_eq!(known, (1..=16).collect::<Vec<u8>>());
    assert!(known.iter().all(|number| Kind::from_wire(*number).is_some_and(|kind| kind as u8 == *number)));
}

#[test]
fn a_sender_without_room_is_left_as_it_was() {
    let mut out = crate::transport::BatchBuffer::default();
    assert!(Head::new(Kind::Reply, 1).place(&[0; 200_000], &mut out));
    let position = out.position();
    assert!(!Head::new(Kind::Reply, 3).place(&[0; 200_000], &mut out));
    assert_eq!(out.position(), position);
    assert!(Head::new(Kind::Reply, 5).place(&[0; 20], &mut out));
    let mut batch = crate::transport::Bytes::default();
    assert!(out.take_batch(&mut batch));
    assert_eq!(batch.as_slice().len() as u64, out.position());
}

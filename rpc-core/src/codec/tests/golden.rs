//! C9: the bytes themselves. They were written by bincode 2.0.1 and postcard 1.1.3, never by what is tested.

use super::*;

fn is<T: Serialize>(what: &str, value: &T, bincode: &str, postcard: &str) {
    for &codec in CodecId::SUPPORTED {
        let expected = if codec.name() == "bincode" { bincode } else { postcard };
        let hex: String = encoded(codec, value).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, expected, "{codec}: {what}");
    }
}

macro_rules! golden {
    ($($value:expr => $bincode:literal $postcard:literal;)*) => {$(
        is(stringify!($value), &$value, $bincode, $postcard);
    )*};
}

#[test]
fn the_bytes_are_what_they_were() {
    golden! {
        () => "" "";
        Unit => "" "";
        true => "01" "01";
        false => "00" "00";
        0x12u8 => "12" "12";
        -2i8 => "fe" "fe";
        0x1234u16 => "3412" "b424";
        -2i16 => "feff" "03";
        0x1234_5678u32 => "78563412" "f8acd19101";
        -2i32 => "feffffff" "03";
        0x1234_5678_9abc_def0u64 => "f0debc9a78563412" "f0bdf3d589cf959a12";
        -2i64 => "feffffffffffffff" "03";
        300usize => "2c01000000000000" "ac02";
        -300isize => "d4feffffffffffff" "d704";
        1u128 << 100 => "00000000000000000000000010000000" "808080808080808080808080808004";
        -1i128 => "ffffffffffffffffffffffffffffffff" "01";
        i64::MIN => "0000000000000080" "ffffffffffffffffff01";
        u64::MAX => "ffffffffffffffff" "ffffffffffffffffff01";
        0u64 => "0000000000000000" "00";
        127u64 => "7f00000000000000" "7f";
        128u64 => "8000000000000000" "8001";
        1.5f32 => "0000c03f" "0000c03f";
        -0.0f64 => "0000000000000080" "0000000000000080";
        f64::INFINITY => "000000000000f07f" "000000000000f07f";
        'a' => "61" "0161";
        'ß' => "c39f" "02c39f";
        '€' => "e282ac" "03e282ac";
        '𝄞' => "f09d849e" "04f09d849e";
        "" => "0000000000000000" "00";
        "trunk" => "05000000000000007472756e6b" "057472756e6b";
        "grüß" => "06000000000000006772c3bcc39f" "066772c3bcc39f";
        None::<u8> => "00" "00";
        Some(7u8) => "0107" "0107";
        Some(Some(300u16)) => "01012c01" "0101ac02";
        Some(None::<u8>) => "0100" "0100";
        Newtype(9) => "09000000" "09";
        Tuple(1, "ab".into()) => "0102000000000000006162" "01026162";
        Shape::Unit => "00000000" "00";
        Shape::Newtype(None) => "0100000000" "0100";
        Shape::Newtype(Some(-1)) => "0100000001ffff" "010101";
        Shape::Tuple(300, 'ß') => "020000002c01c39f" "02ac0202c39f";
        Shape::Struct { on: true, size: 1.0 } => "0300000001000000000000f03f" "0301000000000000f03f";
        [1u8, 2, 3] => "010203" "010203";
        [1u16, 300] => "01002c01" "01ac02";
        (1u8, 2u16, 3u32) => "01020003000000" "010203";
        ((1u8, ()), [(); 3]) => "01" "01";
        Vec::<u8>::new() => "0000000000000000" "00";
        vec![1u8, 2, 3] => "0300000000000000010203" "03010203";
        vec![1u32, 300] => "0200000000000000010000002c010000" "0201ac02";
        vec![vec![1u8], vec![]] => "02000000000000000100000000000000010000000000000000" "02010100";
        vec!["a", "bc"] => "020000000000000001000000000000006102000000000000006263" "020161026263";
        vec![Some(1u8), None] => "0200000000000000010100" "02010100";
        vec![(); 3] => "0300000000000000" "03";
        vec![false; 200].len() => "c800000000000000" "c801";
        BTreeMap::<u8, u8>::new() => "0000000000000000" "00";
        BTreeMap::from([(1u8, "a"), (2, "")]) => "020000000000000001010000000000000061020000000000000000" "020101610200";
        BTreeMap::from([("k".to_owned(), vec![1u8])]) => "010000000000000001000000000000006b010000000000000001" "01016b0101";
        BTreeSet::from([1u8, 2]) => "02000000000000000102" "020102";
        Box::new(5u8) => "05" "05";
        std::borrow::Cow::Borrowed("c") => "010000000000000063" "0163";
        Ok::<u8, u8>(1) => "0000000001" "0001";
        Err::<u8, u8>(2) => "0100000002" "0102";
        std::time::Duration::new(1, 2) => "010000000000000002000000" "0102";
        std::net::Ipv4Addr::LOCALHOST => "7f000001" "7f000001";
        std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST) => "000000007f000001" "007f000001";
        std::num::NonZeroU8::MIN => "01" "01";
        0u8..3 => "0003" "0003";
    }
}

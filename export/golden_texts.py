"""The texts and pairs that prove a graph equal to the trained model: short, long, many scripts."""

from __future__ import annotations

from typing import Final

TEXTS: Final = (
    "",
    " ",
    "a",
    "running shoes",
    "Acme Trail Runner 2, waterproof, women's, size 38, blue",
    "usb-c to hdmi 2.1 cable 3 m (8K @ 60 Hz)",
    "LED bulb E27 9W 806 lm warm white, pack of 6",
    "M6 x 40 mm stainless steel hex bolt DIN 933 A2-70",
    "1/2 in. x 10 ft. copper pipe, type L",
    "kids' bicycle helmet with dinosaurs",
    "SKU 00-4711/B",
    "Akkuschrauber 18 V mit zwei Akkus, Ladegerät und Koffer",
    "chaussures d'été en cuir véritable pour homme",
    "zapatillas de niño con luces, talla 30",
    "кроссовки мужские зимние",
    "ノートパソコン 14インチ 軽量",
    "无线蓝牙耳机 降噪 长续航",
    "무선 청소기 필터 교체용",
    "حذاء رياضي للنساء",
    "जूते पुरुषों के लिए",
    "🎁 gift set ☕ mug + tea",
    "<b>SALE</b> &amp; free shipping!!!",
    "The quick brown fox jumps over the lazy dog while the shop restocks its shelves. " * 4,
    "stainless steel insulated water bottle with a wide mouth and a leak proof lid " * 200,
)

LONG: Final = TEXTS[-1]

# Of a query and an item: relevant, near, beside the point, and at the edges of what can be written.
PAIRS: Final = (
    ("running shoes", "Acme Trail Runner 2, waterproof, women's, size 38, blue"),
    ("running shoes", "Road running shoe, men's, neutral cushioning"),
    ("running shoes", "Shoe cleaning kit with brush and cream"),
    ("running shoes", "Cordless drill 18 V with two batteries"),
    ("running shoes", ""),
    ("a", "b"),
    ("hdmi cable 3m", "usb-c to hdmi 2.1 cable 3 m (8K @ 60 Hz)"),
    ("hdmi cable 3m", "M6 x 40 mm stainless steel hex bolt DIN 933 A2-70"),
    ("1/2 in copper pipe", "1/2 in. x 10 ft. copper pipe, type L"),
    ("led bulb e27 warm white", "LED bulb E27 9W 806 lm warm white, pack of 6"),
    ("sku 00-4711/B", "SKU 00-4711/B"),
    ("akkuschrauber", "Akkuschrauber 18 V mit zwei Akkus, Ladegerät und Koffer"),
    ("chaussures d'été", "chaussures d'été en cuir véritable pour homme"),
    ("zapatillas niño", "cable usb"),
    ("зимние кроссовки", "кроссовки мужские зимние"),
    ("ノートパソコン", "ノートパソコン 14インチ 軽量"),
    ("蓝牙耳机", "无线蓝牙耳机 降噪 长续航"),
    ("무선 청소기", "무선 청소기 필터 교체용"),
    ("حذاء رياضي", "حذاء رياضي للنساء"),
    ("जूते", "🎁 gift set ☕ mug + tea"),
    ("<b>sale</b>", "&amp; free shipping!!!"),
    ("insulated water bottle", LONG),
    (LONG, "stainless steel insulated water bottle"),
    (LONG, ""),
)

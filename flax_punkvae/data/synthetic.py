"""Procedural pixel-art characters with known factors: a source that needs no network and shows no one else's art.

A character is a bust facing left, painted part over part from the drawings in `SHEETS`. Each column there is one part:
its label, how often it occurs in percent, the row and column of its top left pixel, then the pixels. Labels that share
their first word are the values of one factor and exclude each other; what their percentages leave of 100 is "none of
these". Later factors cover earlier ones. A dot paints nothing, a letter is a colour: one of `INKS`, or one of the three
sets that are factors themselves: skin (s, shaded d, lit l), hair tone (h, shaded g) and cloth (c, shaded v).
"""

from typing import NamedTuple

import numpy as np

INKS = """
k 14121aff  w ffffffff  u 5c2028ff  r d8344aff  p f291a8ff  b 2f6fd0ff  e 2e9a4fff  n 7a4a22ff  y f6c93aff
o c98a1eff  m b4bccaff  x 6f788aff  q 5a3fa0ff  B 3aa0f080  R f0507080  P ff8cc480  S f2f2f280  Y fff0a080
"""
# By letters: label, percent, then one colour per letter.
SWATCHES = {
    "sdl": """
skin_ivory skin_peach skin_tan skin_brown skin_umber skin_moss skin_sky skin_violet skin_gold
19         20         19       18         16         3         2        2           1
f4d6bd     e8b48c     c98d5e   95603d     5f3b29     86b06a    7fb6e0   a98ad6      f2c230
d6a78c     c4875f     a2683f   6f4329     43271b     5d8448    5387b8   7b5cab      c08a14
ffeadb     f7cfae     dea87b   ae7850     7b5140     a9cc8d    abd4f2   c8b0ea      ffe58a
""",
    "hg": """
tone_black tone_brown tone_auburn tone_blond tone_silver tone_pink tone_teal tone_lime
24         24         13          14         11          6         5         3
2f2b3a     6b4226     a5482a      e6c35c     d5d9e0      f07ab0    2fb5a5    a6dc3c
1d1a26     4a2b17     7a2f1a      bd9236     a3a9b8      c04f86    1c8377    74a51f
""",
    "cv": """
cloth_navy cloth_red cloth_cream cloth_olive cloth_plum cloth_orange cloth_mint
18         17        15          14          13         12           11
33477e     c93b41    ece3c8      74803c      7d3f7c     e8832e       8fd9b6
222f57     94252f    c2b592      515a27      572a58     b75d18       5fae8a
""",
}
SHEETS = """
head_round     head_long      head_square    head_heart     head_robot
34             26             22             16             2
5,5            5,5            5,5            5,5            5,5
....ssssss.... .....ssss..... ..ssssssssss.. ...ssssssss... .ssssssssssss.
..ssssssssss.. ...ssssssss... .lssssssssssd. .ssssssssssss. .lssssssssssd.
..lsssssssss.. ..lsssssssss.. .lssssssssssd. .lssssssssssd. .lssssssssssd.
.llggssggssss. ..lggssggsss.. .llggssggsssd. .llggssggsssd. .lsggssggsssd.
.lssssssssssd. ..sssssssssd.. .lssssssssssd. .lssssssssssd. .lssssssssssd.
.sssssssssssd. ..sssssssssd.. .sssssssssssd. .sssssssssssd. mlssssssssssdm
.ssssssssssdss ..ssssssssdss. .ssssssssssdss .ssssssssssdss xlssssssssssdx
.sssddsssssdsd ..sssddsssdsd. .sssdssssssdsd .sssdlsssssdsd mlsdddssssssdm
.sssssssssssd. ..sssssssssd.. .sssssssssssd. ..ssssssssdd.. .lssssssssssd.
.sssssssssssd. ..sssssssssd.. .sssssssssssd. ..ssssssssd... .ldssssssssdd.
..sssssssssd.. ..sssssssssd.. .sssssssssssd. ...ssssssd.... .lssssssssssd.
...ssssssdd... ...sssssssd... .ssssssssssdd. ....ssssd..... .dddddddddddd.
.....ddddd.... ....ddddddd... .....ddddd.... .....ddddd.... .....mxmxm....
.....sssss.... .....sssss.... .....sssss.... .....sssss.... .....xmxmx....

wears_tee          wears_hoodie       wears_suit         wears_stripes      wears_overalls     wears_armour
26                 20                 16                 18                 17                 3
18,3               18,3               18,3               18,3               18,3               18,3
.................. ....cc.....cc..... ......ww...ww..... .................. .................. ....mm.....mm.....
....cccsssssccc... ...cccvvvvvccc.... ....cccwwwwwccc... ....cccsssssccc... ....wccsssssccw... ..mmmxmmmmmxmmm...
..cccccccccccccc.. ..cccccccccccccc.. ..ccccvwrwvccccc.. ..wwwwwwwwwwwwww.. ..wwwccwwwwccwwm.. .mmmmcccccccmmmx..
.cccccccccccccccv. .cccccwcccwcccccv. .ccccccvrvcccccvv. .cccccccccccccccv. .wwwwccwwwwccwwwm. .mmxmcccycccmxmx..
.cccvccccccccvccv. .ccvcccccccccvccv. .cccvcccrccccvcvv. .wwwwwwwwwwwwwwwm. .wwmwyccccccywmwm. .mxxmccyyyccmxxm..
.cccvccccccccvccv. .ccvcvvvvvvvcvccv. .cccvcccvccccvcvv. .cccccccccccccccv. .wwmwcccccccvwmwm. .mxxmcccycccmxxm..

beard_full    beard_goatee  beard_moustache beard_stubble mark_freckles mark_blush    mark_scar     mark_paint
9             6             6               7             5             6             3             2
12,6          12,6          12,6            12,6          11,6          11,6          11,6          11,6
h............ ............. .............   ............. ............. ............. ..........u.. .............
hh.....hhhhg. ............. .hhhhhhg.....   d......d.d.d. .d...d..d.d.. .p......pp... .........u... rrr....rrrr..
hhhhhhhhhhhg. ............. .h....g......   .d.d..d.d.d.. d.d....d.d... pp......pp... ........u.... www....wwww..
hhhhhhhhhhg.. .h....g...... .............   d.d.d.d.d.d.. ............. ............. ............. .............
.hhhhhhhhgg.. ..hhhhg...... .............   .d.d.d.d..... ............. ............. ............. .............
..hhhhhhgg... ...hhg....... .............   ............. ............. ............. ............. .............
....hhgg..... ............. .............   ............. ............. ............. ............. .............

mouth_flat mouth_smile mouth_frown mouth_grin mouth_open mouth_lips mouth_tongue mouth_fangs
23         24          12          14         9          9          6            3
14,7       14,7        14,7        14,7       14,7       14,7       14,7         14,7
.uuuu...   u....u..    ..uu....    uuuuuu..   ..uuu...   .rrrr...   .uuuuu..     uuuuuu..
........   .uuuu...    .u..u...    .wwwwu..   ..uru...   ..rr....   ...rr...     .w..w...

eyes_dark     eyes_blue     eyes_green    eyes_sleepy   eyes_happy    eyes_wink     eyes_wide
21            14            10            9             8             6             7
9,6           9,6           9,6           9,6           9,6           9,6           9,6
............. ............. ............. ............. ............. ............. .wwww.wwww...
..kw..kw..... ..bw..bw..... ..ew..ew..... ..dd..dd..... ..kk..kk..... ..kw......... .kkww.kkww...
..kk..kk..... ..kb..kb..... ..ke..ke..... ..kw..kw..... .k..kk..k.... ..kk.kkkk.... .kkww.kkww...
............. ............. ............. ............. ............. ............. ..ww...ww....

eyes_glasses  eyes_shades   eyes_aqua     eyes_rose     eyes_patch    eyes_visor    eyes_cyclops
8             6             4             3             2             1             1
9,6           9,6           9,6           9,6           9,6           9,6           9,6
..rr..rr..... ............. .kkkkkkkk.... .yyyyyyyy.... ....kkkkkkkk. xxxxxxxxxxxx. ...wwww......
.rkwrrkwrrrr. kkkkkkkkkkkkk yBBByBBBykkkk yRRRyRRRyyyyy ..kw.kkkk.... mrrrrrrrrrxx. ..wkkbww.....
.rkkrrkkr.... .kwkkkkwkk... kBBBkBBBk.... yRRRyRRRy.... ..kk.kkkk.... xxxxxxxxxxxx. ..wkkkww.....
..rr..rr..... .kkk..kk..... .kkk.kkk..... .yyy.yyy..... ......kk..... ............. .............

top_bald           top_short          top_curls          top_mohawk         top_spikes         top_bun
8                  13                 9                  5                  7                  7
1,3                1,3                1,3                1,3                1,3                1,3
.................. .................. .....hh.hhh.hh.... ......hhhhg....... ...h...h...h...... .........hhhh.....
.................. ......hhhhhh...... ...hhhhhhhhhhhhh.. .....hhhhhgg...... ...hh..hh..hh..h.. .........hhhgg....
.................. ....hhhhhhhhhh.... ..hhghhhghhhghhhg. .....hhhhhgg...... ...hhh.hhh.hhhhg.. .....hhhhhhggh....
.................. ...hhhhhhhhhhhg... .hhhhhhhhhhhhhhhg. .....hhhhhhgg..... ..hhhhhhhhhhhhhg.. ...hhhhhhhhhhhh...
.................. ...hhhhhhhhhhhgg.. .hghhhghhhghhhghg. ......hhhhhgg..... ...hhhhhhhhhhhgg.. ...hhhhhhhhhhhgg..
......ll.......... ...hhhhhhhhhhhgg.. .hhhhhhhhhhhhhhhg. ......hhhhhg...... ..hhhhhhhhhhhhgg.. ...hhhhhgghhhhgg..
.....ll........... ...hh.hh..hhhhgg.. .hhhg.hh..hhg.hhg. .......hhhg....... ...h.hh.hh.hhhgg.. ...hhgg...hhhhgg..
.................. ..............gg.. .hh..........hhgg. .................. ..............gg.. ...h..........gg..
.................. ..............gg.. .hh...........hhg. .................. ..............gg.. ..............gg..
.................. ...............g.. ..............hgg. .................. ...............g.. ..................

top_long           top_bob            top_braids         top_ponytail       top_swoop
8                  7                  4                  4                  5
1,3                1,3                1,3                1,3                1,3
.................. .................. .................. .................. ..hhhh............
.....hhhhhhhh..... .....hhhhhhhh..... .....hhhhhhhh..... .....hhhhhhhh..... .hhhhhhhhhh.......
...hhhhhhhhhhhh... ...hhhhhhhhhhhh... ...hhhhhhhhhhhh... ...hhhhhhhhhhhhh.. .hhhhhhhhhhhhh....
..hhhhhhhhhhhhhg.. ..hhhhhhhhhhhhhg.. ...hhhhgghhhhhhg.. ...hhhhhhhhhhhrgh. ..hhgggghhhhhhgg..
..hhhhhhhhhhhhhgg. ..hhhhhhhhhhhhhgg. ...hhhgghhhhhhgg.. ...hhhhhhhhhhhrghh ...hhhhhghhhhhgg..
..hhhhghhhhhhhhgg. ..hhhhhhhhhhhhhgg. ...hhgg.hhhhhhgg.. ...hhhhhhhhhhhgghh ...hhhhhhhhhhhgg..
..hhhg...hhhhhhgg. ..hhhhhhhhhhhhhgg. ...hg....hhhhhgg.. ...hhhhh...hhhgghh ....hh...hhhhhgg..
..hh........hhhhg. ..hh.........hhgg. ...h.........hgg.. ...h..........ghhg ..............gg..
..hh.........hhgg. ..hh.........hhgg. ..hg..........hg.. ..............ghhg ..............gg..
.hhh.........hhhg. ..hh.........hhgg. ..gh..........gh.. ...............hhg ...............g..
.hh..........hhhgg ..hh.........hhgg. ..hg..........hg.. ...............hg. ..................
.hh..........hhhgg ..hh.........hhgg. ..gh..........gh.. ...............g.. ..................
.hh..........hhhgg ..hhh........hhgg. ..hg..........hg.. .................. ..................
.hhh.........hhhgg ..ghhh......hhhgg. ..gh..........gh.. .................. ..................
.hhhh.......hhhhgg ...ghh......hhgg.. ..hg..........hg.. .................. ..................
.hhhh.......hhhhgg .................. ..rr..........rr.. .................. ..................
.ghhh.......hhhhgg .................. ..hg..........hg.. .................. ..................
..ghh.......hhhgg. .................. ...h..........h... .................. ..................

top_beanie         top_cap            top_bandana        top_tophat         top_wizard         top_crown
7                  7                  4                  2                  2                  1
1,3                1,3                1,3                1,3                1,3                1,3
.......wwmm....... .................. .................. ....kkkkkkkkxk.... .........qq....... ..................
......wwwwmm...... .................. .................. ....kkkkkkkkxk.... ........qqqq...... ...y....y....y....
......ccwmvv...... .....rrrrrrrr..... ......rrrrrr...... ....kkkkkkkkxk.... .......qqyqq...... ...y...yyy...y....
....cccccccccv.... ....rrrrwwrrruu... ....rrrrrrwrrr.... ....kkkkkkkkxk.... ......qqqqqqq..... ...yy.yyyyy.yy....
...ccccccccccvvv.. ...rrrrrwwrrrruu.. ...rrwrrrrrrrruu.. ....rrrrrrrrur.... .....qqqqqyqqq.... ...yyyyrybyryyoo..
...wwwwwwwwwwwmm.. ...rrrrrrrrrrruu.. ...rrrrrwrrrwruuuu ....rrrrrrrrur.... ....yyyyyyyyyyo... ...yyyyyyyyyyyoo..
...wmwmwmwmwmwmm.. .kuuuuuuuurrrruu.. ...uuuuuuuuuuuu.uu .kkkkkkkkkkkkkkkk. .qqqqqqqqqqqqqqqq. ...hhhhhhhhhhhgg..
...h..........hg.. ...h..........hg.. ...h..........hg.u ...h..........hg.. ..hh..........hgg. ...h..........hg..
..............hg.. ..............hg.. ..............hg.. ..............hg.. ..hh..........hgg. ..............hg..

ears_cat           ears_elf           ears_horns         holds_pipe  holds_gum   holds_lolly holds_rose  earring
2                  3                  1.5                4           4           3           2           12
2,3                8,3                2,3                8,0         8,0         8,0         8,0         14,18
..h.........hh.... .s..............s. ..w............w.. ..SS....... ........... ........... ........... yy
..hh.......hhhg... .ss............ss. ..ww..........ww.. .SS........ ........... ........... ........... y.
..hph.....hpphg... ..s...........sss. ..wwm........mww.. ..S........ ........... ........... ........... ..
..hpph....hppgg... ..............sds. ...wmm......mmw... ........... ........... ..pp....... ........... ..
.................. .................. ....mm......mm.... .nnn....... ..PPPP..... .prrp...... .rr........ ..
.................. .................. .................. .nun....... .PPwPPP.... .rpprwwwww. rurree..... ..
.................. .................. .................. .nnnnnnnn.. .PPPPPPP... .prrp...... rrr..eeeee. ..
.................. .................. .................. ..nnn...... .PPPPPP.... ..pp....... .r....e.... ..
.................. .................. .................. ........... ..PPPP..... ........... ........... ..

necklace  headset parrot halo
8         4       1.5    1
15,7      10,13   15,18  0,6
......... ....xx. .rrr.. ..YYYYYYYYY..
......... ...xbbx rrwkr. .YY.......YY.
......... ...xbbx yyrrr. ..YYYYYYYYY..
......... ....xx. yrree. .............
......... ...x... .rreeb .............
y.......y ..x.... .rebb. .............
.yy...yy. kx..... ..yy.. .............
...yyy... ....... ...... .............
"""


class Factor(NamedTuple):
    """One choice: `percent[j]` of the characters have `labels[j]`; the rest have none, the index after the last.

    masks: uint8 [values + 1, 24, 24], the letters that each value paints as positions in `LETTERS`, 0 for nothing.
    letters: int [l], the positions of the letters whose colour this factor decides; none unless it is in `SWATCHES`.
    swatches: uint8 [values + 1, l, 4], those colours.
    """

    labels: tuple[str, ...]
    percent: tuple[float, ...]
    masks: np.ndarray
    letters: np.ndarray
    swatches: np.ndarray


def _columns(table: str) -> list[tuple[str, ...]]:
    return list(zip(*(line.split() for line in table.strip().splitlines()), strict=True))


def _rgba(code: str) -> list[int]:
    return list(bytes.fromhex(code.ljust(8, "f")))


_INKS: dict[str, str] = dict(zip(INKS.split()[::2], INKS.split()[1::2], strict=True))
LETTERS = "." + "".join(_INKS) + "".join(SWATCHES)
PALETTE = np.array([_rgba(_INKS.get(x, "000000")) for x in LETTERS], np.uint8)  # those of `SWATCHES` are stand-ins
PALETTE[0] = 0


def _factor(columns: list[tuple[str, ...]], letters: str = "") -> Factor:
    """The factor whose values are these columns of a sheet, or of the swatches of these letters."""
    masks = np.zeros((len(columns) + 1, 24, 24), np.uint8)
    swatches = np.zeros((len(columns) + 1, len(letters), 4), np.uint8)
    for j, (_, _, *cells) in enumerate(columns):
        if letters:
            swatches[j] = [_rgba(code) for code in cells]
            continue
        row, column = (int(x) for x in cells[0].split(","))
        drawing = np.array([[LETTERS.index(letter) for letter in line] for line in cells[1:]])
        masks[j, row : row + drawing.shape[0], column : column + drawing.shape[1]] = drawing
    labels = tuple(name.replace("_", " ") for name, *_ in columns)
    percent = tuple(float(share) for _, share, *_ in columns)
    return Factor(labels, percent, masks, np.array([LETTERS.index(x) for x in letters], int), swatches)


def _factors() -> tuple[Factor, ...]:
    parts: dict[str, list[tuple[str, ...]]] = {}
    for sheet in SHEETS.split("\n\n"):
        for column in _columns(sheet):
            parts.setdefault(column[0].split("_")[0], []).append(column)
    colours = [_factor(_columns(table), letters) for letters, table in SWATCHES.items()]
    return (*colours, *(_factor(columns) for columns in parts.values()))


FACTORS = _factors()


def choose(count: int, seed: int) -> np.ndarray:
    """Draw the factors: int [count, factors], positions in `Factor.labels`, or one past them for none.

    Row i depends only on (seed, i). It is made from the raw words of PCG64, a stream NumPy promises never to change.
    """
    words = np.asarray(np.random.PCG64(seed).random_raw(count * len(FACTORS))).reshape(count, len(FACTORS))
    percentiles = (words >> 11) * (100 / 2**53)
    bounds = [np.cumsum(factor.percent) for factor in FACTORS]
    return np.stack([np.searchsorted(b, u, side="right") for b, u in zip(bounds, percentiles.T, strict=True)], axis=1)


def paint(choices: np.ndarray) -> np.ndarray:
    """Paint the characters with these factors (int [n, factors], as `choose` draws them): uint8 [n, 24, 24, 4] RGBA.

    An opaque part gets a black outline where it meets the background. A translucent pixel replaces what it covers, so
    the background shows through it.
    """
    count = len(choices)
    palettes = np.tile(PALETTE, (count, 1, 1))
    canvas = np.zeros((count, 24, 24), np.uint8)
    for factor, choice in zip(FACTORS, choices.T, strict=True):
        palettes[:, factor.letters] = factor.swatches[choice]
        part = factor.masks[choice]
        canvas = np.where(part > 0, part, canvas)
    solid = (PALETTE[:, 3] == 255)[canvas]
    edge = np.zeros_like(solid)
    edge[:, 1:] |= solid[:, :-1]
    edge[:, :-1] |= solid[:, 1:]
    edge[:, :, 1:] |= solid[:, :, :-1]
    edge[:, :, :-1] |= solid[:, :, 1:]
    canvas[edge & (canvas == 0)] = LETTERS.index("k")
    return palettes[np.arange(count)[:, None, None], canvas]


def draw(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Draw characters: sprites uint8 [count, 24, 24, 4] RGBA, labels uint8 [count, a] of 0 and 1, label names [a].

    Character i depends only on (seed, i), so a longer draw begins with the shorter one. The labels of a character
    determine its sprite. Alpha is 0 (background), 128 (tinted glass, smoke, bubble gum, halo) or 255.
    """
    choices = choose(count, seed)
    sprites = np.empty((count, 24, 24, 4), np.uint8)
    for start in range(0, count, 4096):  # bounds the memory that painting needs
        sprites[start : start + 4096] = paint(choices[start : start + 4096])
    one_hot = [c[:, None] == np.arange(len(f.labels)) for f, c in zip(FACTORS, choices.T, strict=True)]
    labels = np.concatenate(one_hot, axis=1).astype(np.uint8)
    return sprites, labels, tuple(label for factor in FACTORS for label in factor.labels)


def resize(sprites: np.ndarray, size: int) -> np.ndarray:
    """Sprites [n, 24, 24, c] at size x size: each pixel is the one of the drawing that its centre falls on."""
    nearest = (2 * np.arange(size) + 1) * 24 // (2 * size)
    return sprites[:, nearest[:, None], nearest]

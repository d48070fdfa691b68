"""The parts that procedural characters are painted from, as text: colours and drawings.

In `SHEETS`, each column is one part: its label, the percentage of characters that have it, the row and column of its
top left pixel, then its pixels. Labels with the same first word are the values of one factor and exclude each other; if
their percentages add up to less than 100, the rest of the characters have none of them. Later factors are painted over
earlier ones. A dot is transparent, a letter is a colour: one of `INKS`, or one of the three sets in `SWATCHES`, which
are factors themselves: skin (s, shaded d, lit l), hair tone (h, shaded g) and cloth (c, shaded v).
"""

# Letter and colour, as RRGGBBAA.
INKS = """
k 14121aff  w ffffffff  u 5c2028ff  r d8344aff  p f291a8ff  b 2f6fd0ff  e 2e9a4fff  n 7a4a22ff  y f6c93aff
o c98a1eff  m b4bccaff  x 6f788aff  q 5a3fa0ff  B 3aa0f080  R f0507080  P ff8cc480  S f2f2f280  Y fff0a080
"""
# For each set of letters, columns of: label, percentage, one colour per letter.
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

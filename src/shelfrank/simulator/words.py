# ruff: noqa: E501
"""The shop's English vocabulary: departments, categories, product types with synonyms, brands, attributes."""

from dataclasses import dataclass

CATEGORY_TABLE = """
Furniture
Sofas|640|10:.2|-|seats|fabric,leather,velvet,linen|reclining,modular,sleeper,compact|sofa/couch/settee;sectional/corner sofa/modular couch;loveseat/two seat sofa;futon/sofa bed
Beds|420|1:.2|-KT|bed|wood,metal,upholstered,bamboo|storage,platform,adjustable,low profile|bed frame/bedstead;mattress/sleeping mattress;bunk bed/loft bed;headboard/bed head
Tables|260|9:.2|-|-|oak,pine,glass,marble,metal|extendable,folding,round,narrow|dining table/kitchen table;coffee table/cocktail table;side table/end table;desk/writing table/work station
Chairs|150|9:.2|--K|-|leather,mesh,wood,velvet,rattan|ergonomic,swivel,stackable,padded|armchair/accent chair/easy chair;office chair/desk chair/task chair;dining chair/kitchen chair;bar stool/counter stool
Storage|140|1:.3|--K|-|wood,metal,bamboo,plastic|wall mounted,narrow,open,lockable|bookcase/bookshelf/shelving unit;dresser/chest of drawers;wardrobe/closet/armoire;shoe rack/shoe cabinet
Home
Rugs|120|10:.2|--K|rug|wool,jute,cotton,polyester|washable,shaggy,non slip,outdoor|area rug/carpet;runner/hallway rug;door mat/entrance mat;bath mat/bathroom rug
Lighting|65|11:.3|--K|-|metal,glass,rattan,ceramic|dimmable,led,smart,cordless|table lamp/desk lamp/bedside lamp;floor lamp/standing lamp;ceiling light/pendant light/chandelier;string lights/fairy lights
Bedding|55|12:.3|-KB|bed|cotton,linen,bamboo,silk|cooling,quilted,organic,wrinkle free|duvet/comforter/quilt;bed sheets/sheet set;pillow/cushion;throw blanket/throw
Curtains|45|3:.1|-|-|linen,velvet,polyester,cotton|blackout,sheer,thermal,grommet|curtains/drapes;roller blind/window shade;curtain rod/drapery pole
Wall decor|40|11:.2|--K|-|canvas,wood,metal,glass|framed,abstract,vintage,large|wall art/art print/poster;mirror/looking glass;picture frame/photo frame;wall clock/clock
Kitchen
Cookware|80|11:.4|-|-|cast iron,stainless steel,aluminum,ceramic|non stick,induction,oven safe,lightweight|frying pan/skillet;saucepan/sauce pot;dutch oven/casserole;baking tray/sheet pan
Kitchen appliances|110|11:.5|-|-|stainless steel,plastic,glass|programmable,compact,quiet,digital|coffee maker/coffee machine/espresso machine;blender/smoothie maker;toaster/toaster oven;air fryer/hot air fryer;kettle/water boiler
Tableware|38|11:.3|--K|-|porcelain,stoneware,glass,melamine|stackable,microwave safe,handmade,gold rim|dinner set/dinnerware/plate set;mug/coffee cup;wine glasses/stemware;cutlery/flatware/silverware
Kitchen tools|28|11:.3|-|-|stainless steel,silicone,wood,bamboo|dishwasher safe,professional,foldable,soft grip|chef knife/kitchen knife;cutting board/chopping board;mixing bowl/salad bowl;measuring cups/measuring spoons
Food storage|26|1:.3|--K|-|glass,plastic,stainless steel,silicone|airtight,leakproof,insulated,stackable|food container/meal prep box;lunch box/bento box;water bottle/drinking bottle/flask;spice jars/storage jars
Household
Floor care|190|4:.2|-|-|plastic,metal|cordless,bagless,lightweight,quiet|vacuum/vacuum cleaner/hoover;robot vacuum/robotic cleaner;steam mop/steam cleaner;broom/sweeper
Laundry|42|1:.1|-|-|plastic,bamboo,metal,canvas|foldable,heavy duty,rolling,steam|laundry basket/hamper;iron/steam iron/garment steamer;drying rack/clothes airer;ironing board/ironing table
Heating and cooling|95|7:.8|-|-|metal,plastic|portable,oscillating,quiet,smart|fan/standing fan;air conditioner/portable cooler;space heater/electric heater;air purifier/air cleaner;humidifier/mist diffuser
Bathroom|32|1:.1|--K|-|cotton,bamboo,stainless steel,polyester|quick dry,waterproof,rustproof,luxury|bath towel/towel set;shower curtain/bath curtain;shower head/rain shower;soap dispenser/soap pump
Cleaning|18|4:.3|-|-|microfiber,plastic,cotton|refillable,eco friendly,concentrated,scented|cleaning cloths/dust cloths;trash can/garbage bin/waste bin;all purpose cleaner/cleaning spray;sponges/scrubbers
Electronics
Headphones|90|12:.5|-ATK|-|plastic,leather,metal|wireless,noise cancelling,waterproof,foldable|headphones/headset/over ear headphones;earbuds/in ear headphones/earphones;portable speaker/bluetooth speaker;sound bar/tv speaker
Televisions|480|11:.6|-|screen|-|4k,smart,oled,curved|tv/television/flat screen;projector/home cinema beamer;streaming stick/media player;tv mount/tv wall bracket
Phone accessories|24|9:.3|-AT|-|silicone,leather,plastic,glass|magnetic,shockproof,fast charging,slim|phone case/mobile cover;charger/charging cable/power adapter;power bank/portable battery;screen protector/tempered glass
Computers|560|8:.4|-AT|screen|aluminum,plastic|gaming,ultralight,touchscreen,refurbished|laptop/notebook computer;tablet/tablet computer;monitor/computer screen;keyboard/computer keyboard;computer mouse/wireless mouse
Cameras|310|12:.4|-ATK|-|metal,plastic|compact,waterproof,instant,digital|camera/digital camera;action camera/sports camera;tripod/camera stand;security camera/surveillance camera
Clothing
Dresses|58|5:.4|AAATK|clothing|cotton,linen,silk,polyester,chiffon|floral,maxi,wrap,sleeveless|dress/gown/frock;skirt/midi skirt;jumpsuit/playsuit/romper
Tops|30|4:.2|AAATK|clothing|cotton,linen,silk,polyester|oversized,striped,slim fit,graphic|t shirt/tee;sweater/jumper/pullover;hoodie/hooded sweatshirt;shirt/blouse/button down
Trousers|46|9:.2|AAATK|clothing|denim,cotton,linen,wool|high waist,stretch,slim fit,wide leg|jeans/denims;trousers/pants/slacks;shorts/bermudas;leggings/tights
Coats|110|11:.7|AAATK|clothing|wool,leather,down,nylon|waterproof,hooded,quilted,lightweight|coat/overcoat/trench coat;jacket/bomber jacket/blazer;raincoat/rain jacket;puffer/down jacket/padded coat
Nightwear|32|12:.4|AAATK|clothing|cotton,flannel,silk,fleece|soft,warm,breathable,printed|pajamas/pyjamas/sleepwear;robe/bathrobe/dressing gown;slippers/house shoes;socks/ankle socks
Shoes and bags
Sneakers|82|4:.2|AAATTK|shoe|leather,mesh,canvas,suede|running,lightweight,high top,slip on|sneakers/trainers/athletic shoes;running shoes/joggers;loafers/slip ons
Boots|115|10:.7|AAATK|shoe|leather,suede,rubber|waterproof,ankle,lace up,insulated|boots/ankle boots;hiking boots/walking boots;rain boots/wellingtons/gumboots
Sandals|48|6:.8|AAATK|shoe|leather,rubber,cork,synthetic|platform,strappy,comfort,waterproof|sandals/open toe shoes;flip flops/beach slippers;heels/pumps/high heels
Bags|68|9:.3|AAATK|-|leather,canvas,nylon,recycled|crossbody,travel,laptop,mini|backpack/rucksack/school bag;handbag/purse/shoulder bag;suitcase/luggage/carry on;tote/shopper bag
Jewelry and watches|74|12:.6|AAAT|-|gold,silver,steel,pearl|engraved,minimalist,adjustable,classic|watch/wristwatch/timepiece;necklace/pendant/chain;earrings/ear studs;bracelet/bangle
Baby
Strollers|240|3:.2|B|-|aluminum,plastic|foldable,jogging,double,travel|stroller/pushchair/pram;car seat/child seat;baby carrier/baby sling
Nursery|130|2:.1|B|-|wood,cotton,bamboo|convertible,portable,organic,breathable|crib/cot/baby bed;changing table/changing station;baby monitor/video monitor;crib mobile/cot mobile
Feeding|24|1:.1|B|-|silicone,glass,plastic,bamboo|anti colic,spill proof,organic,weighted|baby bottle/feeding bottle;high chair/feeding chair;bib/feeding bib;sippy cup/training cup
Diapers and bath|26|1:.1|B|-|cotton,bamboo,plastic|sensitive,overnight,organic,fragrance free|diapers/nappies;baby wipes/wet wipes;baby bath/infant tub;pacifier/soother/dummy
Baby clothing|22|4:.1|B|-|cotton,fleece,bamboo,knit|organic,footed,zip up,printed|onesie/bodysuit/babygrow;sleep sack/sleeping bag;baby hat/bonnet;booties/baby shoes
Toys
Building toys|45|12:.9|KKT|-|plastic,wood,magnetic|educational,mega,creative,space|building blocks/construction set/bricks;train set/toy railway;marble run/marble maze;model kit/scale model
Dolls and figures|28|12:.9|KKKB|-|plush,plastic,vinyl,wood|talking,collectible,posable,giant|doll/fashion doll;dollhouse/doll house;action figure/toy figure;stuffed animal/soft toy/teddy bear
Games and puzzles|26|12:.8|-KTA|-|cardboard,wood,plastic|family,cooperative,travel,strategy|board game/tabletop game;puzzle/jigsaw;card game/playing cards;chess set/chess board
Outdoor toys|60|6:.8|KKT|-|plastic,wood,metal,foam|inflatable,foldable,adjustable,water|scooter/kick scooter;trampoline/jumper;swing set/garden swing;sandbox/sand pit;bubble machine/bubble blower
Arts and crafts|22|9:.4|KKTA|-|paper,wood,wax,clay|washable,beginner,deluxe,glitter|crayons/colored pencils/markers;paint set/watercolors;craft kit/diy kit;sketchbook/drawing pad
Sports
Cycling|280|5:.7|AAKT|-|aluminum,carbon,steel|electric,folding,mountain,city|bike/bicycle/cycle;bike helmet/cycling helmet;bike lock/cycle lock;bike lights/bicycle lamp
Camping|95|6:.8|-|people|nylon,polyester,canvas,aluminum|waterproof,ultralight,pop up,insulated|tent/camping shelter;sleeping bag/mummy bag;camp stove/portable burner;cooler/ice chest/cool box;headlamp/flashlight/torch
Fitness|52|1:.8|-|-|rubber,steel,foam,cork|adjustable,foldable,non slip,heavy duty|yoga mat/exercise mat;dumbbells/hand weights;treadmill/running machine;resistance bands/exercise bands;exercise bike/spin bike
Water sports|70|7:.9|AAKT|-|neoprene,plastic,foam,nylon|inflatable,uv protection,anti fog,quick dry|swimsuit/bathing suit/swimwear;goggles/swim goggles;paddle board/sup board;life jacket/buoyancy vest
Winter sports|130|1:.9|AATK|-|wool,fleece,composite,nylon|insulated,waterproof,thermal,all mountain|ski jacket/snow jacket;ski gloves/winter gloves;sled/sledge/toboggan;ice skates/skating boots
Garden
Patio|260|5:.9|-|seats|rattan,teak,aluminum,steel|weatherproof,foldable,stackable,cushioned|patio set/garden furniture set;lounger/sun bed/deck chair;parasol/patio umbrella;hammock/hanging chair
Grills|220|5:.9|-|-|stainless steel,cast iron,ceramic|portable,charcoal,gas,smokeless|grill/barbecue/bbq;smoker/meat smoker;fire pit/fire bowl;grill cover/barbecue cover
Plants and pots|28|4:.7|-|-|ceramic,plastic,terracotta,metal|hanging,self watering,indoor,large|plant pot/planter/flower pot;artificial plant/fake plant;potting soil/compost;raised bed/garden box
Garden tools|54|4:.7|-|-|steel,wood,plastic|cordless,telescopic,heavy duty,ergonomic|lawn mower/grass cutter;hose/garden hose/water hose;pruner/secateurs/garden shears;spade/shovel;leaf blower/garden vacuum
Beauty
Skin care|26|1:.1|-AAT|-|-|hydrating,fragrance free,vegan,anti aging|moisturizer/face cream/day cream;cleanser/face wash;sunscreen/sun cream/sunblock;serum/face oil
Hair care|32|1:.1|-AAK|-|-|sulfate free,volumizing,repair,ionic|shampoo/hair wash;hair dryer/blow dryer;straightener/flat iron;hair brush/detangler
Makeup|20|12:.3|AAT|-|-|matte,waterproof,long lasting,vegan|lipstick/lip color;mascara/lash mascara;foundation/base makeup;eyeshadow/eye palette;nail polish/nail varnish
Fragrance|60|12:.7|AAT|-|-|floral,woody,fresh,vanilla|perfume/fragrance/eau de parfum;cologne/aftershave;scented candle/aroma candle;essential oil/aroma oil
Personal care|34|1:.1|-AAK|-|-|rechargeable,sensitive,whitening,travel|electric toothbrush/power toothbrush;shaver/electric razor;toothpaste/dental paste;hair trimmer/beard trimmer
Pets
Dogs|34|1:.1|-|pet|nylon,plush,leather,rubber|orthopedic,chew proof,washable,reflective|dog bed/dog cushion;leash/dog lead;dog toy/chew toy;dog food/kibble;dog crate/dog kennel
Cats|30|1:.1|-|-|sisal,plush,plastic,wood|self cleaning,foldable,interactive,grain free|cat tree/scratching post/cat tower;litter box/litter tray;cat food/wet cat food;cat toy/catnip toy
Small pets|38|4:.1|-|-|glass,wood,plastic,metal|starter,large,natural,quiet|fish tank/aquarium;hamster cage/rodent cage;bird feeder/bird house;hay/timothy hay
"""
"""One department per bare line; then `category|median price|peak month:strength|ages|sizes|materials|features|types`.

Ages: letters with equal probabilities (A adults, T teens, K kids, B babies, - any). `;` separates types, `/` separates a
type's synonyms.
"""

BRANDS = {
    "Furniture": "Oakhollow Brennart Lumiso Kestrand Havelle Nordwick Timbra Solvane Casaro Plainly Varnholm Ottiver",
    "Home": "Lindrelle Marrowby Softhaus Ondely Verrano Halcote Pebblewood Rivane Duskfield Amberly Cotswen Lumora",
    "Kitchen": "Castmoor Brasella Tefrano Potterpine Kivella Hearthly Graniq Saltwick Mirepoix Copperan Basilio Kuchena",
    "Household": "Dustara Airvex Cleanova Tidewell Brumm Swiftly Pureon Nimbusa Voltreen Freshmark Homely Zephira",
    "Electronics": "Sonaro Vextron Pixelane Auralis Quantec Nuvanti Teklo Britewave Orbion Zenitek Voltura Hexon",
    "Clothing": "Marlowen Thistle Nordaya Bellacourt Urbanine Willowisp Fjellan Rosabel Denimo Ashgrove Kaira Tallis",
    "Shoes and bags": "Striden Pacera Solemar Trekkon Velorin Boothby Caminar Lacewood Runova Orsino Haldon Strappe",
    "Baby": "Tinywren Babelle Cuddlo Snugaroo Milkmoon Littlefern Nestling Pipkin Cottonbee Dreamlet Hushby Minnow",
    "Toys": "Brixo Playdell Toytopia Wonderkin Puzzlon Funfair Zoomlet Plushie Kidoro Tinkermat Jollybox Gizmoz",
    "Sports": "Summitar Velocross Peakline Aquaro Ironvale Trailhead Gravix Northpole Sprintex Flexara Campo Ridgeback",
    "Garden": "Greenacre Patiola Fernhill Grillmeister Sunterra Bloomer Rakewell Mossan Terrano Hedgely Lawnora Emberoak",
    "Beauty": "Dermisa Glowhaus Lushelle Verbena Puretta Kosmira Silkora Bareby Aromi Velvetine Citra Mellisol",
    "Pets": "Pawsley Whiskard Barkley Furrever Tailwag Meowski Fetchy Petalio Bonnie Gnawsome Purrfect Wagmore",
}
"""Invented names, twelve per department, the first four premium, the last four cheap."""

COLORS = (
    "black", "white", "grey/gray", "blue", "navy/dark blue", "red", "green", "beige/cream", "brown", "pink",
    "yellow", "purple/lilac", "silver", "multicolor/rainbow",
)  # fmt: skip
COLOR_WEIGHTS = (20, 16, 14, 10, 7, 6, 6, 8, 7, 5, 3, 3, 4, 3)

AGE_GROUPS = {"A": "adults", "T": "teens", "K": "kids", "B": "babies"}
AGE_WORDS = {
    "A": ("adult", "unisex"), "T": ("teen", "teenager", "junior"),
    "K": ("kids", "children's", "child"), "B": ("baby", "infant", "newborn"),
}  # fmt: skip

SIZES = {
    "-": (),
    "seats": ("2 seater", "3 seater", "4 seater", "5 seater"),
    "bed": ("twin", "full", "queen", "king"),
    "rug": ("3x5", "5x7", "8x10", "9x12"),
    "screen": ("11 inch", "15 inch", "27 inch", "43 inch", "55 inch"),
    "clothing": ("xs", "small", "medium", "large", "xl"),
    "shoe": ("size 6", "size 7", "size 8", "size 9", "size 10", "size 11"),
    "people": ("2 person", "4 person", "6 person"),
    "pet": ("small", "medium", "large"),
}


@dataclass(frozen=True)
class CategoryWords:
    """The vocabulary of one leaf category.

    Attributes:
        department: Its department.
        name: Its name in the shop.
        price: Its median price in USD.
        peak_month: The month of most demand, 1 to 12.
        season: Strength of the seasonal swing in demand.
        ages: Letters of `AGE_GROUPS` and `-`, with equal probabilities for its products.
        sizes: Sizes that its products come in.
        materials: Materials of its products.
        features: Selling points of its products.
        types: For each product type, its synonyms.
    """

    department: str
    name: str
    price: float
    peak_month: int
    season: float
    ages: str
    sizes: tuple[str, ...]
    materials: tuple[str, ...]
    features: tuple[str, ...]
    types: tuple[tuple[str, ...], ...]


def read_categories() -> tuple[CategoryWords, ...]:
    """The leaf categories in the order of `CATEGORY_TABLE`."""
    categories: list[CategoryWords] = []
    department = ""
    for line in CATEGORY_TABLE.strip().splitlines():
        if "|" not in line:
            department = line
            continue
        name, price, season, ages, sizes, materials, features, types = line.split("|")
        month, strength = season.split(":")
        categories.append(
            CategoryWords(
                department=department,
                name=name,
                price=float(price),
                peak_month=int(month),
                season=float(strength),
                ages=ages,
                sizes=SIZES[sizes],
                materials=() if materials == "-" else tuple(materials.split(",")),
                features=tuple(features.split(",")),
                types=tuple(tuple(words.split("/")) for words in types.split(";")),
            )
        )
    return tuple(categories)

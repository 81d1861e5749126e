//! The operation AIR, written a second time from its documentation: 192 columns, 257 constraints, degree 3.
//!
//! Independent of the Python one on purpose: what both accept, two readings of the page accept.

use p3_air::{Air, AirBuilder, BaseAir, WindowAccess};
use p3_field::PrimeCharacteristicRing;
use p3_koala_bear::{
    GenericPoseidon2LinearLayersKoalaBear, KOALABEAR_POSEIDON2_RC_16_EXTERNAL_FINAL,
    KOALABEAR_POSEIDON2_RC_16_EXTERNAL_INITIAL, KOALABEAR_POSEIDON2_RC_16_INTERNAL, KoalaBear,
};
use p3_poseidon2::GenericPoseidon2LinearLayers;

const WIDTH: usize = 192;
const OUT: usize = 148;
const Y: usize = 164;
const Z: usize = 172;
const FLAGS: usize = 180;
const H: usize = 189;
const LEFT: usize = 190;
const CNT: usize = 191;
const NUM_FLAGS: usize = 9;

pub struct OperationAir;

impl BaseAir<KoalaBear> for OperationAir {
    fn width(&self) -> usize {
        WIDTH
    }

    fn num_public_values(&self) -> usize {
        9
    }
}

type Layers = GenericPoseidon2LinearLayersKoalaBear;

impl<AB: AirBuilder<F = KoalaBear>> Air<AB> for OperationAir {
    fn eval(&self, builder: &mut AB) {
        let main = builder.main();
        let x = main.current_slice();
        let n = main.next_slice();
        permutation(builder, x);
        let row = Row::<AB>::new(x);
        let next = Row::<AB>::new(n);
        row_types(builder, &row, &next);
        starts(builder, &row, &next);
        carries(builder, &row, &next);
        rates(builder, &row, &next);
        registers(builder, &row, &next);
        output_rows(builder, &row, &next);
        root(builder, &row, &next);
    }
}

/// Constraint group 1: one Poseidon2-16 permutation a row.
fn permutation<AB: AirBuilder<F = KoalaBear>>(builder: &mut AB, x: &[AB::Var]) {
    let mut state: [AB::Expr; 16] = core::array::from_fn(|i| x[i].into());
    Layers::external_linear_layer(&mut state);
    let mut column = 16;
    let full = |builder: &mut AB,
                    state: &mut [AB::Expr; 16],
                    constants: &[KoalaBear; 16],
                    column: &mut usize| {
        for (s, c) in state.iter_mut().zip(constants) {
            *s = (s.clone() + *c).cube();
        }
        Layers::external_linear_layer(state);
        for s in state.iter_mut() {
            builder.assert_zero(s.clone() - x[*column]);
            *s = x[*column].into();
            *column += 1;
        }
    };
    for constants in &KOALABEAR_POSEIDON2_RC_16_EXTERNAL_INITIAL {
        full(builder, &mut state, constants, &mut column);
    }
    for constant in &KOALABEAR_POSEIDON2_RC_16_INTERNAL {
        let cubed = (state[0].clone() + *constant).cube();
        builder.assert_zero(cubed - x[column]);
        state[0] = x[column].into();
        column += 1;
        Layers::internal_linear_layer(&mut state);
    }
    for constants in &KOALABEAR_POSEIDON2_RC_16_EXTERNAL_FINAL {
        full(builder, &mut state, constants, &mut column);
    }
}

/// A row by the names of the documentation.
struct Row<'x, AB: AirBuilder> {
    x: &'x [AB::Var],
    a: AB::Expr,
    b: AB::Expr,
    d: AB::Expr,
    e: AB::Expr,
    k: AB::Expr,
    s: AB::Expr,
    c: AB::Expr,
    l: AB::Expr,
    r: AB::Expr,
    h: AB::Expr,
    left: AB::Expr,
    count: AB::Expr,
    pad: AB::Expr,
}

impl<'x, AB: AirBuilder> Row<'x, AB> {
    fn new(x: &'x [AB::Var]) -> Self {
        let flag = |i: usize| -> AB::Expr { x[FLAGS + i].into() };
        let flags: AB::Expr = (0..NUM_FLAGS).map(flag).sum();
        Self {
            x,
            a: flag(0),
            b: flag(1),
            d: flag(2),
            e: flag(3),
            k: flag(4),
            s: flag(5),
            c: flag(6),
            l: flag(7),
            r: flag(8),
            h: x[H].into(),
            left: x[LEFT].into(),
            count: x[CNT].into(),
            pad: AB::Expr::ONE - flags,
        }
    }

    fn input(&self, j: usize) -> AB::Expr {
        self.x[j].into()
    }

    fn out(&self, j: usize) -> AB::Expr {
        self.x[OUT + j].into()
    }

    fn y(&self, j: usize) -> AB::Expr {
        self.x[Y + j].into()
    }

    fn z(&self, j: usize) -> AB::Expr {
        self.x[Z + j].into()
    }

    fn flag(&self, i: usize) -> AB::Expr {
        self.x[FLAGS + i].into()
    }

    fn not_h(&self) -> AB::Expr {
        AB::Expr::ONE - self.h.clone()
    }
}

fn constant<AB: AirBuilder<F = KoalaBear>>(value: u32) -> AB::Expr {
    AB::Expr::from_u32(value)
}

/// Group 2: flags are bits, one at most, and follow each other as the rows of an operation do.
fn row_types<AB: AirBuilder<F = KoalaBear>>(builder: &mut AB, x: &Row<AB>, n: &Row<AB>) {
    let one = || AB::Expr::ONE;
    for i in 0..NUM_FLAGS {
        builder.assert_zero(x.flag(i) * (x.flag(i) - one()));
    }
    builder.assert_zero(x.pad.clone() * (x.pad.clone() - one()));
    builder.when_first_row().assert_zero(x.a.clone() - one());
    builder.assert_zero(n.b.clone() - x.a.clone());
    builder.assert_zero(n.d.clone() - x.b.clone());
    builder.assert_zero(n.e.clone() - x.d.clone());
    builder.assert_zero(n.k.clone() - x.e.clone() * x.not_h());
    builder.assert_zero(n.s.clone() - x.k.clone());
    builder.assert_zero(n.c.clone() + n.l.clone() - x.s.clone() - x.c.clone());
    builder.assert_zero(n.r.clone() - x.e.clone() * x.h.clone());
    let early = x.a.clone() + x.b.clone() + x.d.clone();
    builder.assert_zero(n.h.clone() - x.l.clone() - early * x.h.clone());
    let ends = n.pad.clone() - x.pad.clone() - x.r.clone() * (one() - n.a.clone());
    builder.when_transition().assert_zero(ends);
    builder.when_last_row().assert_zero(x.pad.clone() - one());
}

/// Group 3: the capacity that a sponge starts with, its tag and length.
fn starts<AB: AirBuilder<F = KoalaBear>>(builder: &mut AB, x: &Row<AB>, n: &Row<AB>) {
    let v = constant::<AB>;
    let first = x.a.clone() * x.not_h();
    builder.assert_zero(
        first.clone() * (x.input(8) - v(6))
            + x.b.clone() * (x.input(8) - v(3) + x.h.clone())
            + x.k.clone() * (x.input(8) - v(4))
            + x.s.clone() * (n.input(8) - v(1)),
    );
    builder.assert_zero(
        first.clone() * (x.input(9) - v(40))
            + x.b.clone() * (x.input(9) - v(16))
            + x.k.clone() * (x.input(9) - v(8))
            + x.s.clone() * (n.input(9) - n.left.clone()),
    );
    for j in 10..16 {
        let here = first.clone() + x.b.clone() + x.k.clone();
        builder.assert_zero(here * x.input(j) + x.s.clone() * n.input(j));
    }
}

/// Group 4: the capacity that is carried on.
fn carries<AB: AirBuilder<F = KoalaBear>>(builder: &mut AB, x: &Row<AB>, n: &Row<AB>) {
    for j in 0..8 {
        builder.assert_zero(
            (x.b.clone() + x.c.clone()) * (n.input(8 + j) - x.out(8 + j))
                + (x.d.clone() + x.k.clone() + x.l.clone()) * (n.input(8 + j) - x.y(j)),
        );
    }
}

/// Group 5: what a row absorbs from the one before.
fn rates<AB: AirBuilder<F = KoalaBear>>(builder: &mut AB, x: &Row<AB>, n: &Row<AB>) {
    for j in 0..8 {
        builder.assert_zero(
            x.a.clone() * (n.input(j) - x.input(j))
                + (x.d.clone() + x.k.clone() + x.l.clone()) * (n.input(j) - x.out(j))
                + x.e.clone() * (n.input(j) - x.y(j) - x.h.clone() * (x.out(j) - x.y(j))),
        );
    }
}

/// Group 6: the register Y.
fn registers<AB: AirBuilder<F = KoalaBear>>(builder: &mut AB, x: &Row<AB>, n: &Row<AB>) {
    for j in 0..8 {
        builder.assert_zero(
            (x.a.clone() + x.s.clone()) * (n.y(j) - x.out(8 + j))
                + (x.b.clone() + x.c.clone()) * (n.y(j) - x.y(j))
                + x.not_h()
                    * (x.d.clone() * (n.y(j) - x.input(j)) + x.e.clone() * (n.y(j) - x.out(8 + j))),
        );
    }
}

/// Group 7: the output's blocks, its last block's length, its padding and the length of its tail in bytes.
fn output_rows<AB: AirBuilder<F = KoalaBear>>(builder: &mut AB, x: &Row<AB>, n: &Row<AB>) {
    let one = || AB::Expr::ONE;
    builder.assert_zero(x.c.clone() * (n.left.clone() - x.left.clone() + constant::<AB>(8)));
    for i in 0..8 {
        builder.assert_zero(x.l.clone() * n.y(i) * (n.y(i) - one()));
    }
    let sum: AB::Expr = (0..8).map(|i| n.y(i)).sum();
    builder.assert_zero(x.l.clone() * (sum - one()));
    let weighted: AB::Expr = (0..8).map(|i| n.y(i) * constant::<AB>(i as u32 + 1)).sum();
    builder.assert_zero(x.l.clone() * (weighted - x.left.clone()));
    for j in 1..8 {
        let shorter: AB::Expr = (0..j).map(|i| n.y(i)).sum();
        builder.assert_zero(x.l.clone() * shorter * x.input(j));
    }
    let groups = n.input(9) - one();
    let tail = groups.clone() * constant::<AB>(3) - n.input(0);
    let first = tail.clone() - x.y(0);
    builder.assert_zero(x.s.clone() * x.y(0) * (x.y(0) - one()));
    builder.assert_zero(x.s.clone() * first.clone() * (first - one()));
    builder.assert_zero(x.s.clone() * (tail - groups * x.y(1)));
}

/// Groups 8 and 9: the running root Z, the count of operations, and what both must come to.
fn root<AB: AirBuilder<F = KoalaBear>>(builder: &mut AB, x: &Row<AB>, n: &Row<AB>) {
    let public: Vec<AB::Expr> = builder.public_values().iter().map(|&v| v.into()).collect();
    let total = public[8].clone();
    builder.when_first_row().assert_zero(x.z(0) - constant::<AB>(7));
    builder.when_first_row().assert_zero(x.z(1) - total.clone() * constant::<AB>(8));
    for j in 2..8 {
        builder.when_first_row().assert_zero(x.z(j));
    }
    for j in 0..8 {
        builder.assert_zero(x.r.clone() * (x.input(8 + j) - x.z(j)));
    }
    for j in 0..8 {
        let step = n.z(j) - x.z(j) - x.r.clone() * (x.out(8 + j) - x.z(j));
        builder.when_transition().assert_zero(step);
    }
    for (j, root) in public.iter().take(8).enumerate() {
        builder.assert_zero(x.r.clone() * n.pad.clone() * (x.out(j) - root.clone()));
    }
    builder.when_first_row().assert_zero(x.count.clone());
    let step = n.count.clone() - x.count.clone() - x.r.clone();
    builder.when_transition().assert_zero(step);
    builder.when_last_row().assert_zero(x.count.clone() - total);
}

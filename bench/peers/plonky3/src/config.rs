//! The protocol: KoalaBear, Poseidon2 sponges and compressions, FRI with the benchmark parameters of high arity.

use p3_challenger::DuplexChallenger;
use p3_commit::ExtensionMmcs;
use p3_dft::Radix2DitParallel;
use p3_field::Field;
use p3_field::extension::BinomialExtensionField;
use p3_fri::{FriParameters, TwoAdicFriPcs};
use p3_koala_bear::{
    KoalaBear, Poseidon2KoalaBear, default_koalabear_poseidon2_16, default_koalabear_poseidon2_24,
};
use p3_merkle_tree::MerkleTreeMmcs;
use p3_symmetric::{PaddingFreeSponge, TruncatedPermutation};
use p3_uni_stark::StarkConfig;

pub type Val = KoalaBear;
pub type Challenge = BinomialExtensionField<Val, 4>;
type Perm16 = Poseidon2KoalaBear<16>;
type Perm24 = Poseidon2KoalaBear<24>;
type Hash = PaddingFreeSponge<Perm24, 24, 16, 8>;
type Compress = TruncatedPermutation<Perm16, 2, 8, 16>;
type Packing = <Val as Field>::Packing;
type ValMmcs = MerkleTreeMmcs<Packing, Packing, Hash, Compress, 2, 8>;
type ChallengeMmcs = ExtensionMmcs<Val, Challenge, ValMmcs>;
type Dft = Radix2DitParallel<Val>;
type Pcs = TwoAdicFriPcs<Val, Dft, ValMmcs, ChallengeMmcs>;
type Challenger = DuplexChallenger<Val, Perm24, 24, 16>;
pub type Config = StarkConfig<Pcs, Challenge, Challenger>;

const CAP_HEIGHT: usize = 3;

/// A named parameter set of ours, in Plonky3's terms.
pub fn config(parameters: &str) -> Option<Config> {
    let perm24 = default_koalabear_poseidon2_24();
    let compress = Compress::new(default_koalabear_poseidon2_16());
    let mmcs = ValMmcs::new(Hash::new(perm24.clone()), compress, CAP_HEIGHT);
    let challenge_mmcs = ChallengeMmcs::new(mmcs.clone());
    let fri = match parameters {
        "standard" => FriParameters::new_benchmark_high_arity(challenge_mmcs),
        "proven-100" => FriParameters {
            num_queries: 210,
            ..FriParameters::new_benchmark_high_arity(challenge_mmcs)
        },
        "testing" => FriParameters {
            num_queries: 2,
            query_proof_of_work_bits: 1,
            ..FriParameters::new_benchmark_high_arity(challenge_mmcs)
        },
        // No set of the product grinds between foldings; this one shows that both sides do it alike.
        "testing-commit-grinding" => FriParameters {
            num_queries: 2,
            query_proof_of_work_bits: 1,
            commit_proof_of_work_bits: 5,
            ..FriParameters::new_benchmark_high_arity(challenge_mmcs)
        },
        _ => return None,
    };
    let pcs = Pcs::new(Dft::default(), mmcs, fri);
    Some(Config::new(pcs, Challenger::new(perm24)))
}

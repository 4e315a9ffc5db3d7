#pragma once
// The lists of rows, one a file.
#include "fault.h"

namespace keel::faults {

void attention_faults(std::vector<Fault>& all);
void norm_faults(std::vector<Fault>& all);
void loss_faults(std::vector<Fault>& all);
void optimiser_faults(std::vector<Fault>& all);
void precision_faults(std::vector<Fault>& all);
void scaling_faults(std::vector<Fault>& all);
void data_faults(std::vector<Fault>& all);
void recurrent_faults(std::vector<Fault>& all);
void parallel_faults(std::vector<Fault>& all);
void memory_faults(std::vector<Fault>& all);
void everyday_faults(std::vector<Fault>& all);
void everyday_loss_faults(std::vector<Fault>& all);
void objective_faults(std::vector<Fault>& all);
void loop_faults(std::vector<Fault>& all);
void sequence_faults(std::vector<Fault>& all);
void training_run_faults(std::vector<Fault>& all);
void fifth_likelihoods(std::vector<Fault>& all);
void fifth_geometry(std::vector<Fault>& all);
void fifth_formats(std::vector<Fault>& all);
void boundary_faults(std::vector<Fault>& all);
void sixth_faults(std::vector<Fault>& all);
void cell_faults(std::vector<Fault>& all);
void seventh_losses(std::vector<Fault>& all);
void seventh_states(std::vector<Fault>& all);

void healthy_networks(std::vector<Healthy>& list);
void healthy_more(std::vector<Healthy>& list);

}  // namespace keel::faults

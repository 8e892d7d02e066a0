/* faults: what goes wrong, and when: drawn from the run's seed; every kind may be absent, rare or frequent. */
#ifndef GY_SIM_FAULTS_H
#define GY_SIM_FAULTS_H

struct gy_sim;

/* Draws the weather and schedules the first of every kind of trouble. */
void gy_sim_faults_begin(struct gy_sim *sim);
/* Nothing goes wrong any more, and what is broken is mended, but for damaged disks: those are the coordinator's to replace. */
void gy_sim_faults_heal(struct gy_sim *sim);

#endif

"""How good is a list, and how even are many? Relevance, where it stands, distance, coverage,
novelty, how alike two are, and what the items of a catalogue and their groups get of the places."""

from worker.ranking.metrics.alpha_ndcg import alpha_ndcg as alpha_ndcg
from worker.ranking.metrics.average_precision import average_precision as average_precision
from worker.ranking.metrics.average_precision import reciprocal_rank as reciprocal_rank
from worker.ranking.metrics.average_precision import roc_auc as roc_auc
from worker.ranking.metrics.catalogue import catalogue_coverage as catalogue_coverage
from worker.ranking.metrics.catalogue import times_shown as times_shown
from worker.ranking.metrics.coverage import s_recall as s_recall
from worker.ranking.metrics.err import err as err
from worker.ranking.metrics.err import err_ia as err_ia
from worker.ranking.metrics.exposure import exposure as exposure
from worker.ranking.metrics.exposure import exposure_parity as exposure_parity
from worker.ranking.metrics.exposure import exposure_per_merit as exposure_per_merit
from worker.ranking.metrics.gini import gini as gini
from worker.ranking.metrics.ild import ild as ild
from worker.ranking.metrics.long_tail import long_tail_share as long_tail_share
from worker.ranking.metrics.long_tail import popular_head as popular_head
from worker.ranking.metrics.ndcg import ndcg as ndcg
from worker.ranking.metrics.novelty import novelty as novelty
from worker.ranking.metrics.parity import equal_coverage as equal_coverage
from worker.ranking.metrics.parity import equal_opportunity as equal_opportunity
from worker.ranking.metrics.precision import f1 as f1
from worker.ranking.metrics.precision import precision as precision
from worker.ranking.metrics.precision import recall as recall
from worker.ranking.metrics.rank_overlap import rbo as rbo

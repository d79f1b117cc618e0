"""How good is a list? Relevance, where it stands, novelty, distance, coverage."""

from worker.ranking.metrics.alpha_ndcg import alpha_ndcg as alpha_ndcg
from worker.ranking.metrics.average_precision import average_precision as average_precision
from worker.ranking.metrics.average_precision import reciprocal_rank as reciprocal_rank
from worker.ranking.metrics.average_precision import roc_auc as roc_auc
from worker.ranking.metrics.coverage import s_recall as s_recall
from worker.ranking.metrics.err import err as err
from worker.ranking.metrics.err import err_ia as err_ia
from worker.ranking.metrics.ild import ild as ild
from worker.ranking.metrics.ndcg import ndcg as ndcg
from worker.ranking.metrics.precision import f1 as f1
from worker.ranking.metrics.precision import precision as precision
from worker.ranking.metrics.precision import recall as recall

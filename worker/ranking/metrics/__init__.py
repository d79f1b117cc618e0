"""How good is a list? One measure a file: relevance, novelty, distance, coverage."""

from worker.ranking.metrics.alpha_ndcg import alpha_ndcg as alpha_ndcg
from worker.ranking.metrics.coverage import s_recall as s_recall
from worker.ranking.metrics.coverage import subtopic_count as subtopic_count
from worker.ranking.metrics.ild import ild as ild
from worker.ranking.metrics.ndcg import ndcg as ndcg

-- Purpose: resources whose id or name is most like what somebody typed.
-- Grain: one resource.
-- Parameters: $name: what was typed; $most: how many.
SELECT resource_id
FROM raw.series
WHERE resource_id IS NOT NULL
GROUP BY resource_id
HAVING max(greatest(
    jaro_winkler_similarity(lower(resource_id), lower($name)),
    jaro_winkler_similarity(lower(coalesce(resource_name, '')), lower($name))
)) > 0.85
ORDER BY max(greatest(
    jaro_winkler_similarity(lower(resource_id), lower($name)),
    jaro_winkler_similarity(lower(coalesce(resource_name, '')), lower($name))
)) DESC, resource_id
LIMIT $most

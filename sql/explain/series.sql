-- Purpose: the metered series that some charges may have been made of: same SKU, project and region, and resource.
-- Grain: one series.
-- Parameters: $sku, $project, $region: of the charges, the latter two may be null; $resources: ids, or null for any
--             resource; $without_resource: whether usage without a resource is meant as well.
SELECT
    series.*,
    0::BIGINT AS records
FROM raw.series AS series
WHERE series.sku_id = $sku
  AND series.project_id IS NOT DISTINCT FROM CAST($project AS VARCHAR)
  AND series.region IS NOT DISTINCT FROM CAST($region AS VARCHAR)
  AND (
      CAST($resources AS VARCHAR[]) IS NULL
      OR list_contains(CAST($resources AS VARCHAR[]), series.resource_id)
      OR ($without_resource AND series.resource_id IS NULL)
  )
ORDER BY series.series_id

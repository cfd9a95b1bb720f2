"""ModelService on the wire."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import grpc.aio

from deviceops.v1 import model_cache_pb2, model_pb2, model_pb2_grpc, model_task_pb2
from domains.clients import caller
from domains.conversions import converted, wished
from domains.memory.convert.upkeep import component_to_proto
from domains.model import convert
from domains.model.convert import cache, device, tasks
from domains.model.core import ModelService
from domains.model.views import ModelOrder
from domains.session.convert import SessionStreams, Starters

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class ModelServicer(model_pb2_grpc.ModelServiceServicer):
    """What is built; the rest is answered by the generated base."""

    def __init__(self, core: ModelService, streams: SessionStreams) -> None:
        self._core = core
        self._streams = streams

    def register(self, starters: Starters) -> None:
        """Have it known how requests that start sessions become those."""
        core, know = self._core, starters.know
        know(model_pb2.RefreshModelsRequest, convert.refresh_from_proto, core.refreshes.refresh)
        know(model_cache_pb2.CacheModelRequest, cache.cache_from_proto, core.caching.cache)
        know(model_pb2.LoadModelRequest, device.load_from_proto, core.loads.load)
        know(model_pb2.UnloadModelRequest, device.unload_from_proto, core.unloads.unload)
        know(
            model_task_pb2.BenchmarkModelRequest,
            device.benchmark_from_proto,
            core.benchmarks.benchmark,
        )
        know(
            model_task_pb2.ValidateModelRequest, tasks.validation_from_proto, core.checks.check
        )
        know(
            model_task_pb2.OptimizeModelRequest,
            tasks.optimization_from_proto,
            core.optimizing.optimize,
        )
        know(
            model_task_pb2.ConvertModelRequest,
            tasks.conversion_from_proto,
            core.conversions.convert,
        )

    async def ListModels(
        self, request: model_pb2.ListModelsRequest, context: Context
    ) -> model_pb2.ListModelsResponse:
        found = await self._core.catalogue.list(
            convert.list_filter_from_proto(request),
            order=convert.ORDERS.from_proto(request.order, ModelOrder.NAME, field="order"),
            page_size=request.page_size,
            page_token=request.page_token,
        )
        page = found.converted(convert.listed_model_to_proto)
        return model_pb2.ListModelsResponse(
            models=page.items,
            next_page_token=page.next_page_token,
            total_count=page.total_count,
            revision=self._core.catalogue.revision,
            problems=self._core.catalogue.problems,
        )

    async def SearchModels(
        self, request: model_pb2.SearchModelsRequest, context: Context
    ) -> model_pb2.SearchModelsResponse:
        found = await self._core.catalogue.search(
            request.query,
            convert.search_filter_from_proto(request),
            page_size=request.page_size,
            page_token=request.page_token,
        )
        page = found.converted(convert.match_to_proto)
        return model_pb2.SearchModelsResponse(
            matches=page.items, next_page_token=page.next_page_token
        )

    async def GetModel(
        self, request: model_pb2.GetModelRequest, context: Context
    ) -> model_pb2.GetModelResponse:
        model = await self._core.catalogue.get(request.model_id)
        return model_pb2.GetModelResponse(
            model=convert.model_to_proto(model),
            components=[convert.component_to_proto(part) for part in model.components],
        )

    def RefreshModels(
        self, request: model_pb2.RefreshModelsRequest, context: Context
    ) -> AsyncIterator[model_pb2.RefreshModelsResponse]:
        return self._streams.start(request, context, model_pb2.RefreshModelsResponse)

    def WatchModels(
        self, request: model_pb2.WatchModelsRequest, context: Context
    ) -> AsyncIterator[model_pb2.WatchModelsResponse]:
        told = self._core.catalogue.watch(request.model_id, from_revision=request.from_revision)
        return converted(told, convert.told_to_proto)

    async def GetModelComponents(
        self, request: model_pb2.GetModelComponentsRequest, context: Context
    ) -> model_pb2.GetModelComponentsResponse:
        model = await self._core.catalogue.get(request.model_id)
        fitting = await self._core.catalogue.fitting(model)
        return model_pb2.GetModelComponentsResponse(
            components=[convert.component_to_proto(part) for part in model.components],
            compatible_vae_model_ids=fitting.vaes,
            compatible_lora_model_ids=fitting.loras,
            compatible_control_net_model_ids=fitting.control_nets,
            compatible_image_prompt_adapter_ids=fitting.image_prompt_adapters,
            compatible_refiner_model_ids=fitting.refiners,
        )

    def CacheModel(
        self, request: model_cache_pb2.CacheModelRequest, context: Context
    ) -> AsyncIterator[model_cache_pb2.CacheModelResponse]:
        return self._streams.start(request, context, model_cache_pb2.CacheModelResponse)

    async def EvictModel(
        self, request: model_cache_pb2.EvictModelRequest, context: Context
    ) -> model_cache_pb2.EvictModelResponse:
        freed = await self._core.caching.evict(request.model_id)
        return model_cache_pb2.EvictModelResponse(freed_bytes=freed)

    async def GetCacheStatus(
        self, request: model_cache_pb2.GetCacheStatusRequest, context: Context
    ) -> model_cache_pb2.GetCacheStatusResponse:
        return cache.cache_to_proto(await self._core.caching.status())

    async def SetCacheBudget(
        self, request: model_cache_pb2.SetCacheBudgetRequest, context: Context
    ) -> model_cache_pb2.SetCacheBudgetResponse:
        wanted = wished(request, "budget_bytes")
        status = await self._core.caching.set_budget(wanted)
        return model_cache_pb2.SetCacheBudgetResponse(cache=cache.cache_to_proto(status))

    def LoadModel(
        self, request: model_pb2.LoadModelRequest, context: Context
    ) -> AsyncIterator[model_pb2.LoadModelResponse]:
        return self._streams.start(request, context, model_pb2.LoadModelResponse)

    def UnloadModel(
        self, request: model_pb2.UnloadModelRequest, context: Context
    ) -> AsyncIterator[model_pb2.UnloadModelResponse]:
        return self._streams.start(request, context, model_pb2.UnloadModelResponse)

    def BenchmarkModel(
        self, request: model_task_pb2.BenchmarkModelRequest, context: Context
    ) -> AsyncIterator[model_task_pb2.BenchmarkModelResponse]:
        return self._streams.start(request, context, model_task_pb2.BenchmarkModelResponse)

    async def GetModelStatus(
        self, request: model_pb2.GetModelStatusRequest, context: Context
    ) -> model_pb2.GetModelStatusResponse:
        found = await self._core.statuses.status(request.model_id)
        return model_pb2.GetModelStatusResponse(
            model=convert.model_to_proto(found.model),
            cached=None if found.cached is None else cache.entry_to_proto(found.cached),
            loaded=[device.loaded_to_proto(one) for one in found.loaded],
            components=[component_to_proto(one) for one in found.components],
            estimates=[device.estimate_to_proto(one) for one in found.estimates],
        )

    def ValidateModel(
        self, request: model_task_pb2.ValidateModelRequest, context: Context
    ) -> AsyncIterator[model_task_pb2.ValidateModelResponse]:
        return self._streams.start(request, context, model_task_pb2.ValidateModelResponse)

    def OptimizeModel(
        self, request: model_task_pb2.OptimizeModelRequest, context: Context
    ) -> AsyncIterator[model_task_pb2.OptimizeModelResponse]:
        return self._streams.start(request, context, model_task_pb2.OptimizeModelResponse)

    def ConvertModel(
        self, request: model_task_pb2.ConvertModelRequest, context: Context
    ) -> AsyncIterator[model_task_pb2.ConvertModelResponse]:
        return self._streams.start(request, context, model_task_pb2.ConvertModelResponse)

    def ImportModel(
        self, request: model_task_pb2.ImportModelRequest, context: Context
    ) -> AsyncIterator[model_task_pb2.ImportModelResponse]:
        wanted = self._core.imports.import_model(caller(), convert.import_from_proto(request))
        response = model_task_pb2.ImportModelResponse
        return self._streams.run(wanted, context, response, request.delivery)

    async def UpdateModel(
        self, request: model_pb2.UpdateModelRequest, context: Context
    ) -> model_pb2.UpdateModelResponse:
        model = await self._core.upkeep.update(convert.update_from_proto(request))
        return model_pb2.UpdateModelResponse(model=convert.model_to_proto(model))

    async def SetDefaultModel(
        self, request: model_pb2.SetDefaultModelRequest, context: Context
    ) -> model_pb2.SetDefaultModelResponse:
        model = await self._core.upkeep.choose_default(request.model_id)
        return model_pb2.SetDefaultModelResponse(model=convert.model_to_proto(model))

    async def DeleteModel(
        self, request: model_pb2.DeleteModelRequest, context: Context
    ) -> model_pb2.DeleteModelResponse:
        freed = await self._core.upkeep.delete(request.model_id, request.expected_sha256)
        return model_pb2.DeleteModelResponse(freed_bytes=freed)

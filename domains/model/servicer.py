"""ModelService on the wire."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import grpc.aio

from deviceops.v1 import model_pb2, model_pb2_grpc, model_task_pb2
from domains.model import convert
from domains.model.core import Checks, Conversions, Loads, ModelCatalogue
from domains.model.types import ModelOrder
from domains.session.convert import SessionStreams

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class ModelServicer(model_pb2_grpc.ModelServiceServicer):
    """The catalogue, loads, checks and copies; the rest is answered by the generated base."""

    def __init__(
        self,
        catalogue: ModelCatalogue,
        loads: Loads,
        checks: Checks,
        conversions: Conversions,
        streams: SessionStreams,
    ) -> None:
        self._catalogue = catalogue
        self._loads = loads
        self._checks = checks
        self._conversions = conversions
        self._streams = streams

    async def ListModels(
        self, request: model_pb2.ListModelsRequest, context: Context
    ) -> model_pb2.ListModelsResponse:
        found = await self._catalogue.list(
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
            revision=self._catalogue.revision,
            problems=self._catalogue.problems,
        )

    async def SearchModels(
        self, request: model_pb2.SearchModelsRequest, context: Context
    ) -> model_pb2.SearchModelsResponse:
        found = await self._catalogue.search(
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
        model = await self._catalogue.get(request.model_id)
        return model_pb2.GetModelResponse(
            model=convert.model_to_proto(model),
            components=[convert.component_to_proto(part) for part in model.components],
        )

    async def GetModelComponents(
        self, request: model_pb2.GetModelComponentsRequest, context: Context
    ) -> model_pb2.GetModelComponentsResponse:
        model = await self._catalogue.get(request.model_id)
        fitting = await self._catalogue.fitting(model)
        return model_pb2.GetModelComponentsResponse(
            components=[convert.component_to_proto(part) for part in model.components],
            compatible_vae_model_ids=fitting.vaes,
            compatible_lora_model_ids=fitting.loras,
            compatible_control_net_model_ids=fitting.control_nets,
            compatible_refiner_model_ids=fitting.refiners,
        )

    def LoadModel(
        self, request: model_pb2.LoadModelRequest, context: Context
    ) -> AsyncIterator[model_pb2.LoadModelResponse]:
        wanted = self._loads.load(convert.load_from_proto(request))
        return self._streams.run(wanted, context, model_pb2.LoadModelResponse, request.delivery)

    def ValidateModel(
        self, request: model_task_pb2.ValidateModelRequest, context: Context
    ) -> AsyncIterator[model_task_pb2.ValidateModelResponse]:
        wanted = self._checks.check(convert.validation_from_proto(request))
        response = model_task_pb2.ValidateModelResponse
        return self._streams.run(wanted, context, response, request.delivery)

    def ConvertModel(
        self, request: model_task_pb2.ConvertModelRequest, context: Context
    ) -> AsyncIterator[model_task_pb2.ConvertModelResponse]:
        wanted = self._conversions.convert(convert.conversion_from_proto(request))
        response = model_task_pb2.ConvertModelResponse
        return self._streams.run(wanted, context, response, request.delivery)
